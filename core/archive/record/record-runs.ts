/** A record as its writer sees it: summaries of its runs, and the files that they need. */
import type { Target } from '../../contract/index.js';
import { inLanes } from '../../primitives/lanes.js';
import { manifestName, runName, runTime } from './layout.js';
import { manifestSize, mostLooks } from './record.js';
import { failuresOf, pathsOf, type RunSummary } from './run-summary.js';
import type { Verifications } from './verifications.js';

export interface RecordRuns {
  /** Complete runs, newest first. */
  readonly complete: readonly RunSummary[];
  /** Runs with an unusable manifest, newest first. Their needs are unknown, so nothing of the record may be collected while there
   *  is one. */
  readonly damaged: readonly { readonly run: string; readonly why: string }[];
}

/** Memory for the needed paths of all runs; beyond it nothing is collected. */
const mostNeeded = 32 << 20;
/** Bytes of a path in memory, beside its characters. */
const perPath = 100;

/** Paths in the record that some run needs; undefined when there are too many to keep in memory. */
export function pathsNeeded({ complete }: RecordRuns): ReadonlySet<string> | undefined {
  const needed = new Set<string>();
  let size = 0;
  for (const run of complete) {
    const paths = pathsOf(run);
    if (paths === undefined) return undefined;
    for (const path of paths) {
      if (needed.has(path)) continue;
      needed.add(path);
      size += path.length + perPath;
    }
    if (size > mostNeeded) return undefined;
  }
  return needed;
}

/** The runs, each with those needed files that failed verification. */
export function withFailed(runs: RecordRuns, verifications: Verifications): RecordRuns {
  if (!verifications.areFailed) return runs;
  const complete = runs.complete.map((one) => {
    const failed = failuresOf(one, verifications).map(({ path }) => path);
    return failed.length > 0 ? { ...one, failed } : one;
  });
  return { ...runs, complete };
}

/** A new run name after all existing ones, whatever the clock says: the last by name is the newest.
 *  @param latest the newest existing run, complete or damaged */
export async function freeRunName(target: Target, record: string, latest: string | undefined): Promise<string> {
  for (let time = Math.max(Date.now(), latest === undefined ? 0 : runTime(latest) + 1000); ; time += 1000) {
    const run = runName(time);
    if ((await target.stat(`${record}/${run}`)) === undefined) return run;
  }
}

/** Chooses the runs to delete. Only runs that exist count: a run that stays must have its manifest, in the known size.
 *  @param choose returns the names to delete from complete runs, newest first
 *  @param readAnew reads runs whose manifest is missing or has another size. @returns all runs as they are then */
export async function chooseProven(
  target: Target,
  record: string,
  given: RecordRuns,
  {
    choose,
    readAnew,
  }: { choose(complete: readonly RunSummary[]): readonly string[]; readAnew(runs: readonly string[]): Promise<RecordRuns> },
): Promise<{ readonly runs: RecordRuns; readonly old: readonly string[] }> {
  const proven = new Set<string>();
  for (let runs = given; ; ) {
    const old = choose(runs.complete);
    const gone = new Set(old);
    const open = old.length === 0 ? [] : runs.complete.filter(({ run }) => !gone.has(run) && !proven.has(run));
    if (open.length === 0) return { runs, old };
    const sizes = await inLanes(open, mostLooks, ({ run }) => manifestSize(target, record, run).then((size) => ({ size })));
    const wrong = open.filter(({ manifest }, n) => sizes[n]?.size !== manifest.bytes).map(({ run }) => run);
    for (const { run } of open) proven.add(run);
    if (wrong.length > 0) runs = await readAnew(wrong);
  }
}

/** Deletes a run by its manifest, so that the run never exists in part. What it alone needed is garbage then. */
export async function removeRun(target: Target, record: string, run: string): Promise<void> {
  await target.remove(`${record}/${run}/${manifestName}`);
}
