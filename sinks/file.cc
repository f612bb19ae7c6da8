// sinks/file
