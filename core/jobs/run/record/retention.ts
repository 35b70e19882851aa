/** Picks the runs that retention deletes after a new run was read back. */

/** Complete runs beyond the newest `retention` whole ones; 0 keeps all. A run that failed its last verification does not count, and
 *  goes together with the whole runs of its age. */
export function runsToDelete(
  newestFirst: readonly { readonly run: string; readonly failed?: readonly string[] }[],
  retention: number,
): string[] {
  if (retention === 0) return [];
  const firstOld = newestFirst.filter(({ failed }) => failed === undefined)[retention];
  return firstOld === undefined ? [] : newestFirst.slice(newestFirst.indexOf(firstOld)).map(({ run }) => run);
}
