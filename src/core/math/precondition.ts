// Like `invariant` of the domain, which mathematics does not know.

/** States what must hold of the arguments. A failure is the caller's bug. */
export function precondition(condition: unknown, whatMustHold: string): asserts condition {
  if (!condition) throw new Error(`Bug in oserve: ${whatMustHold}`);
}
