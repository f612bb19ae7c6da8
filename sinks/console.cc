// sinks/console
