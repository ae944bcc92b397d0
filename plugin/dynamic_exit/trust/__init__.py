"""What is held against files from elsewhere before they are opened: sizes, depths, places and signatures."""

__all__: list[str] = []
