/** Every file of the state folder is damaged in every way. No acknowledged write is lost without a message. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { isWanted, pointsOf, seed } from '../../support/depth.js';
import { flip, type Harm, harms, makeStateBed, outcomeOf, type StateBed } from './bed.js';

/** Park and Miller's generator, so that a seed reproduces a run. */
function randoms(start: number): () => number {
  let last = start % 2_147_483_647 || 1;
  return () => {
    last = (last * 48_271) % 2_147_483_647;
    return last;
  };
}

/** @returns the problem of the damaged copy; undefined when there is none */
async function problemOf(bed: StateBed, file: string, harm: Harm): Promise<string | undefined> {
  const copy = await bed.copy();
  const path = join(copy.folder, file);
  try {
    await harm(path, join(bed.other, file));
    const { kind, contents, told } = await outcomeOf(copy.folder);
    await childOutput('chattr', ['-i', path]).catch(() => undefined); // the file may be missing
    const isKey = file === 'secret.key' && kind === 'healed'; // the targets have lost their passwords, and the service reports it
    const wanted = isKey ? { ...bed.contents, targets: contents?.targets } : bed.contents;
    if (contents !== undefined && !isDeepStrictEqual(contents, wanted)) return `silent loss, ${kind}: ${told}`;
    if (kind === 'rescue' || kind === 'refused' || isKey) {
      await cp(bed.folder, copy.folder, { recursive: true, force: true });
      const back = await outcomeOf(copy.folder);
      if (!isDeepStrictEqual(back.contents, bed.contents)) return `${kind}, and not all is there when the file is back: ${back.told}`;
    }
    counts[kind]++;
    return undefined;
  } catch (error) {
    return `threw ${error instanceof Error ? error.stack : error}`;
  } finally {
    await copy.end();
  }
}
const counts = { whole: 0, healed: 0, rescue: 0, refused: 0 };

t.test('any damage of one file of the state is harmless, repaired with a log line, or ends the start with an error', async (t) => {
  const { bits } = pointsOf('state');
  t.comment(`seed ${seed}`);
  const bed = await makeStateBed(t);
  const next = randoms(seed);
  for (const file of bed.files.filter(isWanted)) {
    const problems: string[] = [];
    const tried = async (name: string, harm: Harm) => {
      const problem = await problemOf(bed, file, harm);
      if (problem) problems.push(`${name}: ${problem}`);
    };
    for (const [name, harm] of Object.entries(harms)) await tried(name, harm);
    for (let n = 0; n < bits; n++) {
      const at = next();
      await tried(`bit ${at}`, flip(at));
    }
    t.same(problems, [], file);
  }
  t.comment(JSON.stringify(counts));
});

/** Makes the first key of a table too short, for which LevelDB ends the process: the rest of the key goes to its value. Before a key, one
 *  byte holds its length, and two hold that of its value, with seven bits each. @returns whether it could */
async function shortenKey(file: string): Promise<boolean> {
  const bytes = await readFile(file);
  const at = bytes.indexOf('backup/0');
  const [key = 0, low = 0, high = 0] = bytes.subarray(at - 3, at);
  const isFound = at > 3 && key === 'backup/000000000001'.length + 8 && low >= 128 && high < 128;
  const length = (low & 127) + high * 128 + key - 1;
  if (isFound) bytes.set([1, (length & 127) | 128, length >> 7], at - 3);
  if (isFound) await writeFile(file, bytes);
  return isFound;
}

t.test('a table that crashes LevelDB does not crash the service', async (t) => {
  const bed = await makeStateBed(t);
  let tried = 0;
  for (const file of bed.files.filter((name) => name.endsWith('.ldb'))) {
    const { folder, end } = await bed.copy();
    if (await shortenKey(join(folder, file))) {
      tried++;
      const { kind, contents, told } = await outcomeOf(folder);
      t.equal(kind, 'healed');
      t.match(told, [/^the database is rebuilt from the journal, .* LevelDB ends with SIGABRT as it reads it/]);
      t.same(contents, bed.contents);
    }
    await end();
  }
  t.not(tried, 0);
});
