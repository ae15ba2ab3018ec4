"""Learning from a score while acting, one episode at a time (RLCF), and forgetting it again."""
