// sinks/encode
