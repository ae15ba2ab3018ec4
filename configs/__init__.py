"""What a run is: typed run configs, named presets and the ``vla`` command."""
