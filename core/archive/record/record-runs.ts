/** A record as its writer sees it: its runs in short, what they need, and which of them count. */
import type { Target } from '../../contract/index.js';
import { inLanes } from '../../primitives/lanes.js';
import { manifestName, runName, runTime } from './layout.js';
import { manifestSize, mostLooks } from './record.js';
import { failuresOf, pathsOf, type RunSummary } from './run-summary.js';
import type { Verifications } from './verifications.js';

export interface RecordRuns {
  /** Complete runs, newest first. */
  readonly complete: readonly RunSummary[];
  /** Runs whose manifest is there and cannot be used, newest first. What they name is not known, so nothing of the record is
   *  rubbish then. */
  readonly damaged: readonly { readonly run: string; readonly why: string }[];
}

/** What the paths of all runs may take in memory; beyond it nothing is collected. */
const mostNeeded = 32 << 20;
/** Of a path, beside its characters. */
const perPath = 100;

/** Paths in the record that some run needs; undefined when there are too many to know. */
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

/** The runs, each with what failed of the files that it needs. */
export function withFailed(runs: RecordRuns, verifications: Verifications): RecordRuns {
  if (!verifications.areFailed) return runs;
  const complete = runs.complete.map((one) => {
    const failed = failuresOf(one, verifications).map(({ path }) => path);
    return failed.length > 0 ? { ...one, failed } : one;
  });
  return { ...runs, complete };
}

/** A name that no run has, and after all that there are, whatever the clock says: what comes last by name is the newest.
 *  @param latest the newest run that there is, whole or damaged */
export async function freeRunName(target: Target, record: string, latest: string | undefined): Promise<string> {
  for (let time = Math.max(Date.now(), latest === undefined ? 0 : runTime(latest) + 1000); ; time += 1000) {
    const run = runName(time);
    if ((await target.stat(`${record}/${run}`)) === undefined) return run;
  }
}

/** Chooses which runs are given up, by what counts only: a run that is to stay has its manifest, in the size that it had.
 *  @param choose of complete runs, newest first, the names of those that are given up
 *  @param readAnew is called with runs whose manifest has gone or has another size. @returns the runs as they are then */
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

/** Gives a run up: its manifest first, so that it never exists in part. What it alone needed is garbage then. */
export async function removeRun(target: Target, record: string, run: string): Promise<void> {
  await target.remove(`${record}/${run}/${manifestName}`);
}
