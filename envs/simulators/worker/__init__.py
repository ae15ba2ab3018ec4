"""What runs in another project's Python: worlds of its simulator, played on request.

That Python has NumPy and the simulator and nothing of ours, so these modules import the standard library and NumPy
alone (each file of worlds its simulator too) and one another by relative imports: there, this package is called
``vla_worker``.
"""
