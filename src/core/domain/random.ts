// The only dice of the core. Implemented in core/math; forked by name so that one more draw here moves nothing there.
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** An independent stream; equal seed and equal name give equal draws. */
  fork(name: string): Random;
}
