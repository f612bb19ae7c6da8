// sinks/http
