"""Images, labelled or not: from Parquet, folders, .npz files and torchvision, into memory.

``reading.read_images`` finds the right reader for whatever ``--dataset`` takes.
"""
