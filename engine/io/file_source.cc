// engine/io/file_source
