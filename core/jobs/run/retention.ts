/** Which runs are given up once a new one is proven. */

/** The runs beyond the newest `retention` that are whole; 0 keeps all. One that failed its last verification does not count, so that
 *  it pushes nothing out, and goes with the whole ones beside it. Give it complete runs only: failed ones push nothing out. */
export function runsToDelete(
  newestFirst: readonly { readonly run: string; readonly failed?: readonly string[] }[],
  retention: number,
): string[] {
  if (retention === 0) return [];
  const firstOld = newestFirst.filter(({ failed }) => failed === undefined)[retention];
  return firstOld === undefined ? [] : newestFirst.slice(newestFirst.indexOf(firstOld)).map(({ run }) => run);
}
