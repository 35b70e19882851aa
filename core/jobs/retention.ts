/** Which runs are given up once a new one is proven. */

/** The runs beyond the newest `retention`; 0 keeps all. Give it complete runs only: failed ones push nothing out. */
export function runsToDelete(completeRunsNewestFirst: readonly string[], retention: number): string[] {
  return retention > 0 ? completeRunsNewestFirst.slice(retention) : [];
}
