// engine/core/window
