// sinks/slack
