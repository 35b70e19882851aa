/** `container-backup state …`: shows what is left of a damaged state, and mends it as a person decides. */
import { createLog } from '../log.js';
import { beginAnew, examineState, repairedWay, restoredWay, takeRows, type WayOut } from '../store/index.js';

const explicitWord = '--yes-lose-everything';
const shownLosses = 200;

export const stateHelp = [
  'usage: container-backup state show|restore|repair|begin-anew [--state DIR]',
  '',
  '  show         what is left, and what each other command would lose, row by row. Changes nothing',
  '  restore      go back to the newest state that is proven complete',
  '  repair       continue with everything readable, the newest of each row',
  `  begin-anew   start as a new appliance; needs ${explicitWord}`,
  '',
  'The old files are set aside in the state folder and never deleted. A service that waits for this starts by itself.',
].join('\n');

type Say = (line: string) => void;

function sayLosses(say: Say, { losses }: WayOut): void {
  for (const line of losses.slice(0, shownLosses)) say(`    ${line}`);
  if (losses.length > shownLosses) say(`    and ${losses.length - shownLosses} more`);
}

/** Prints what is left and what can be done. */
async function show(folder: string, say: Say): Promise<void> {
  const { report, state, aside } = await examineState(folder);
  if (aside.length > 0) say(`set aside earlier: ${aside.join(', ')}`);
  if (!report) return say(`the state is whole: ${state?.rows.size ?? 0} rows, ${state?.stamp.seq ?? 0} writes`);
  say(`the state is damaged: ${report.reason}`);
  for (const { name, rows, seq, problems } of report.copies)
    say(
      `  ${name}: ${rows} rows, last write ${seq ?? 'unknown'}${problems.length > 0 ? `; ${problems.slice(0, 5).join('; ')}` : ', whole'}`,
    );
  const restored = restoredWay(report);
  if (restored) {
    say(`state restore: ${restored.rows.size} rows as of write ${report.proven?.stamp.seq}, proven complete. It would lose:`);
    sayLosses(say, restored);
  } else say('state restore: no state is proven complete');
  const repaired = repairedWay(report);
  say(`state repair: ${repaired.rows.size} rows, everything readable. Deleted rows may be back, unreadable ones are lost:`);
  sayLosses(say, repaired);
  say(`state begin-anew ${explicitWord}: a new appliance, without any of the ${report.readable.size} rows`);
}

/** @returns the exit code */
async function take(folder: string, verb: 'restore' | 'repair', say: Say): Promise<number> {
  const { report } = await examineState(folder);
  if (!report) {
    say('the state is whole: nothing was changed');
    return 0;
  }
  const way = verb === 'restore' ? restoredWay(report) : repairedWay(report);
  if (!way) {
    say('no state is proven complete; read state show, then use state repair');
    return 1;
  }
  await takeRows({ folder, log: createLog() }, report, way.rows);
  say(`the state has ${way.rows.size} rows now${way.losses.length > 0 ? '. It lost:' : ''}`);
  sayLosses(say, way);
  return 0;
}

/** @returns the exit code @throws ServiceError when a service has the state folder open */
export async function stateCommand(folder: string, verb: string | undefined, words: readonly string[], say: Say): Promise<number> {
  if (verb === 'show') await show(folder, say);
  else if (verb === 'restore' || verb === 'repair') return take(folder, verb, say);
  else if (verb === 'begin-anew' && words.includes(explicitWord)) {
    say(`the appliance is new; the old state is in ${folder}/${await beginAnew({ folder, log: createLog() })}`);
  } else {
    say(verb === 'begin-anew' ? `this loses all jobs, targets and users: add ${explicitWord}` : stateHelp);
    return 2;
  }
  return 0;
}
