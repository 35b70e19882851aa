/** Runs one swap as a process that the suite can kill: `swap-once.js commit|undo|recover <journals> <disk>`. The engine is a stub without
 *  containers: journal and swap are the real ones, and they work only on folders and a file. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import {
  clearPlace,
  fillFolder,
  type Journal,
  Journals,
  makeScratch,
  type Place,
  planPlace,
  Swaps,
  swapBack,
  swapPlaces,
  syncFilled,
} from '../../plugins/shared/swap/index.js';

/** The engine's part of the journal is empty. */
type Own = Record<never, never>;

const openSwaps = (folder: string) => {
  const journals = new Journals<Own>(folder, () => ({}));
  const engine = {
    async revert(journal: Journal<Own>) {
      for (const place of journal.places.toReversed()) await swapBack(place, () => journals.write(journal));
      journal.phase = 'draft';
      await journals.write(journal);
    },
    async discard(journal: Journal<Own>) {
      for (const place of journal.places.toReversed()) await clearPlace(place, false, () => journals.write(journal));
    },
    async finish(journal: Journal<Own>) {
      for (const place of journal.places) await clearPlace(place, true, () => journals.write(journal));
    },
    checkKept: async () => undefined,
    ownFolder: () => undefined,
    adoptEarlier: async () => undefined,
    users: async () => [],
  };
  return { journals, swaps: new Swaps(journals, engine, () => undefined) };
};

/** Paths of the first folder that the run leaves out. */
const excludes = ['./cache/*', './deep/er/*.tmp', './inner'];

/** Writes the restored content of each place, as extracted archives would. */
async function fill(places: readonly Place[]): Promise<void> {
  const [first = '', inner = '', fresh = '', file = ''] = places.map(fillFolder);
  for (const folder of ['deep/er', 'cache', 'usb', 'new']) await mkdir(join(first, folder), { recursive: true });
  for (const name of ['a', 'deep/b', 'deep/er/c', 'new/d']) await writeFile(join(first, name), `restored ${name}`);
  await childOutput('setfattr', ['-n', 'user.from', '-v', 'the run', first]);
  await writeFile(join(inner, 'inner-file'), 'restored');
  await mkdir(join(fresh, 'sub'));
  await writeFile(join(fresh, 'sub/file'), 'restored');
  await writeFile(join(file, 'settings.conf'), 'restored');
  for (const path of places.map(fillFolder))
    await childOutput('find', [path, '-exec', 'touch', '-d', '2001-02-03T04:05:06.789', '{}', '+']);
  for (const path of [join(first, 'a'), join(file, 'settings.conf')]) await childOutput('chattr', ['+i', path]);
}

async function commit(folder: string, disk: string): Promise<void> {
  const { journals } = openSwaps(folder);
  const journal = journals.create('subject', {});
  const id = (n: number) => ({ id: `${journal.id}-${n}` });
  journal.places.push(
    await planPlace(join(disk, 'data'), 'folder', { ...id(0), excludes }),
    await planPlace(join(disk, 'data/inner'), 'folder', id(1)),
    await planPlace(join(disk, 'gone/away/fresh'), 'folder', id(2)),
    await planPlace(join(disk, 'settings.conf'), 'file', id(3)),
  );
  await journals.write(journal);
  for (const place of journal.places) await makeScratch(place, () => journals.write(journal));
  await fill(journal.places);
  await syncFilled(journal.places);
  journal.undoUntil = Date.now() + 3_600_000;
  journal.phase = 'swap';
  await journals.write(journal);
  await swapPlaces(journal.places, () => journals.write(journal));
  await journals.write({ ...journal, phase: 'done' });
}

const [what = '', folder = '', disk = ''] = process.argv.slice(2);
if (what === 'commit') await commit(folder, disk);
else {
  const { journals, swaps } = openSwaps(folder);
  const [kept] = (await journals.read()).journals;
  if (what === 'undo') await swaps.undo(kept?.id ?? '');
  else await swaps.recover();
}
