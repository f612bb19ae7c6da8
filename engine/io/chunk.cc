// engine/io/chunk
