// engine/cli/run
