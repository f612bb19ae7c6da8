// engine/core/evaluator
