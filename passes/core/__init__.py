"""What every pass stands on: Program and Plan, Pass and Pipeline, the rewriter, the printer and the oracle."""
