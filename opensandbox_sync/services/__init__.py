"""The services: one noun, one file. ``Sandbox`` and ``SandboxClient`` make them when they are first used."""
