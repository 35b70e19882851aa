/** Kills a swap, or cuts its power, at each of its system calls. After the recovery everything is as before or everything is restored.
 *  Paths that the run leaves out, and mounts inside a place, stay unchanged. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { childOutput, childResult } from '../../plugins/shared/primitives/child.js';
import { isWanted, pointsOf, seed } from '../support/depth.js';
import { differences, type Snapshot, snapshotOf } from '../support/fidelity.js';
import { flagsIn } from '../support/inode-flags.js';
import { type CutFileSystem, cutFileSystem, type DiskKind } from '../support/power-cut.js';

const program = fileURLToPath(new URL('swap-once.js', import.meta.url));
const points = pointsOf('swap');
t.comment(`seed ${seed}`);

/** The system calls that change the file system or sync it. */
const calls = 'rename,mkdir,rmdir,unlink,fsync,fchown,fchmod,chown,chmod,utimensat,setxattr,syncfs,ioctl';

interface Bed {
  readonly journals: string;
  readonly disk: CutFileSystem;
}

async function bed(t: Test, kind?: DiskKind): Promise<Bed> {
  const place = await mkdtemp(join(tmpdir(), 'swap-'));
  t.teardown(() => rm(place, { recursive: true, force: true }));
  const journals = join(place, 'journals');
  await mkdir(journals);
  return { journals, disk: await cutFileSystem(t, place, kind) };
}

/** Writes the files that exist before a restore. */
async function fillDisk(disk: CutFileSystem): Promise<void> {
  const { folder } = disk;
  const data = join(folder, 'data');
  for (const one of ['deep/er', 'cache/sub', 'usb', 'inner', 'only-before']) await mkdir(join(data, one), { recursive: true });
  const names = ['a', 'deep/b', 'deep/er/c', 'deep/er/kept.tmp', 'cache/kept', 'cache/sub/kept', 'inner/inner-file', 'only-before/x'];
  for (const name of names) await writeFile(join(data, name), `before ${name}`);
  await writeFile(join(folder, 'settings.conf'), 'before');
  await childOutput('setfacl', ['-m', 'u:12345:rwx', data]);
  await plugStick(disk);
  await childOutput('find', [folder, '-exec', 'touch', '-h', '-d', '@1000000000.123456789', '{}', '+']);
  for (const name of ['data/only-before', 'data/a', 'settings.conf']) await childOutput('chattr', ['+i', join(folder, name)]);
  await childOutput('chattr', ['+a', join(data, 'deep/b')]);
  await childOutput('sync', ['-f', folder]);
}

async function plugStick({ folder }: CutFileSystem): Promise<void> {
  await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', join(folder, 'data/usb')]);
  await writeFile(join(folder, 'data/usb/mounted'), 'on the stick');
}

/** Removes everything on the disk and all journals. */
async function emptyBed({ journals, disk: { folder } }: Bed): Promise<void> {
  for (const name of await readdir(journals)) await rm(join(journals, name));
  await childResult('umount', ['-l', join(folder, 'data/usb')]);
  await childResult('chattr', ['-R', '-f', '-ia', folder]);
  for (const name of await readdir(folder)) if (name !== 'lost+found') await rm(join(folder, name), { recursive: true });
}

type Trees = ReadonlyMap<string, Snapshot>;

/** Returns the visible files, with inode flags among the attributes. Leaves out the hidden folders of an undo and the root of the disk. */
async function live({ folder }: CutFileSystem): Promise<Trees> {
  const all = await snapshotOf(folder);
  for (const [, name = '', flags = ''] of (await flagsIn(folder)).map((line) => /^(.*) (\S+)$/.exec(line) ?? [])) {
    const one = all.get(name);
    if (one) all.set(name, { ...one, attributes: `${one.attributes} ${flags}` });
  }
  return new Map([...all].filter(([name]) => name !== '' && !/(^|\/)\.container-backup-/.test(name)));
}

const run = (b: Bed, what: string) => childOutput(process.execPath, [program, what, b.journals, b.disk.folder]);

/** The nth call of this name that a thread makes. */
interface Point {
  readonly call: string;
  readonly n: number;
}

/** Runs the program under strace. One thread makes all calls of the file system, so that strace counts them together. */
const traced = (b: Bed, what: string, args: readonly string[]) =>
  childResult('env', [
    'UV_THREADPOOL_SIZE=1',
    ...['strace', '-f', '-qq', ...args, process.execPath, program, what, b.journals, b.disk.folder],
  ]);

/** Runs the program and kills it, or a child of it, at a call. strace then dies by the same signal. */
async function runKilled(b: Bed, what: string, { call, n }: Point): Promise<void> {
  await traced(b, what, ['-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${n}`]).catch(() => undefined);
}

/** Returns every point of an undisturbed run. */
async function pointsIn(b: Bed, what: string): Promise<Point[]> {
  const log = join(b.journals, '..', 'calls');
  await traced(b, what, ['-o', log, '-e', `trace=${calls}`]);
  const counts = new Map<string, number>();
  for (const [, thread = '', call = ''] of (await readFile(log, 'utf8')).matchAll(/^(\d+)\s+([a-z]+)\(/gm)) {
    counts.set(`${call} ${thread}`, (counts.get(`${call} ${thread}`) ?? 0) + 1);
  }
  const most = new Map<string, number>();
  for (const [key, count] of counts) most.set(key.split(' ')[0] ?? '', Math.max(count, most.get(key.split(' ')[0] ?? '') ?? 0));
  return [...most].flatMap(([call, count]) => Array.from({ length: count }, (_, n) => ({ call, n: n + 1 })));
}

/** Returns the renames that first fail with EPERM, because of an inode flag, and succeed after the flag is cleared. */
async function unlockedRenames(b: Bed, what: string): Promise<Point[]> {
  const log = join(b.journals, '..', 'renames');
  await traced(b, what, ['-o', log, '-e', 'trace=rename']);
  const found: Point[] = [];
  const counts = new Map<string, number>();
  const refused = new Set<string>();
  for (const [, thread = '', from = '', result = ''] of (await readFile(log, 'utf8')).matchAll(/^(\d+)\s+rename\("([^"]*)".*= (.*)$/gm)) {
    const n = (counts.get(thread) ?? 0) + 1;
    counts.set(thread, n);
    if (result.includes('EPERM')) refused.add(from);
    else if (refused.delete(from)) found.push({ call: 'rename', n });
  }
  return found;
}

interface Ends {
  readonly before: Trees;
  readonly after: Trees;
}

/** Returns the files before a swap and after an undisturbed one. */
async function endsOf(t: Test, b: Bed): Promise<Ends> {
  await fillDisk(b.disk);
  const before = await live(b.disk);
  await run(b, 'commit');
  const after = await live(b.disk);
  await run(b, 'undo');
  t.same(differences(before, await live(b.disk)), [], 'an undo restores everything, attributes and times too');
  t.same(await leftovers(b), [], 'an undo leaves nothing behind');
  await emptyBed(b);
  return { before, after };
}

async function leftovers({ journals, disk }: Bed): Promise<string[]> {
  const names = [...(await snapshotOf(disk.folder)).keys()].filter((name) => name.includes('.container-backup-'));
  return [...names, ...(await readdir(journals))];
}

/** Says which of the two `now` equals. Otherwise lists the differences from the nearer one. */
function judge({ before, after }: Ends, now: Trees): string {
  const madeAnew = /^"gone(\/away)?": mtime/; // a swap makes the folders above a new place
  const [old, fresh] = [before, after].map((end) => differences(end, now).filter((line) => !madeAnew.test(line)));
  if (old === undefined || fresh === undefined) return 'neither';
  if (old.length === 0) return 'before';
  return fresh.length === 0 ? 'after' : (old.length < fresh.length ? old : fresh).slice(0, 8).join('\n');
}

interface Attempt extends Point {
  readonly what: 'commit' | 'undo';
  readonly cut: boolean;
}

/** Kills a run at one point, recovers, and checks the result. */
async function attempt(t: Test, b: Bed, ends: Ends, o: Attempt): Promise<void> {
  await fillDisk(b.disk);
  if (o.what === 'undo') await run(b, 'commit');
  await runKilled(b, o.what, o);
  if (o.cut) {
    await b.disk.cut(() => childResult('umount', ['-l', join(b.disk.folder, 'data/usb')]));
    await plugStick(b.disk);
  }
  await run(b, 'recover');
  const isDone = (await readdir(b.journals)).some((name) => name.endsWith('.json'));
  const expected = isDone ? 'after' : 'before';
  const found = judge(ends, o.cut ? withoutMount(await live(b.disk)) : await live(b.disk));
  t.equal(found, expected, nameOf(o));
  if (isDone) await run(b, 'undo');
  t.same(await leftovers(b), [], `nothing is left after ${nameOf(o)}`);
  await emptyBed(b);
}

/** Ignores the stick: after a power cut it is mounted anew. */
const withoutMount = (trees: Trees): Trees => new Map([...trees].filter(([name]) => !name.startsWith('data/usb')));

const nameOf = ({ what, cut, call, n }: Attempt): string => `${what}, ${cut ? 'power cut' : 'killed'} at ${call} ${n}`;

/** Always tried: the first journal is half written, a swap makes folders above a place, an undo removes the folders that it emptied. */
const always = /^commit, killed at (fsync 1|chown \d+|chmod \d+)$|^undo, killed at rmdir [1-4]$/;

async function attemptsOf(b: Bed, what: Attempt['what'], cut: boolean): Promise<Attempt[]> {
  await fillDisk(b.disk);
  if (what === 'undo') await run(b, 'commit');
  const all = await pointsIn(b, what);
  if (what === 'commit') await run(b, 'undo');
  await emptyBed(b);
  return all.map((point) => ({ ...point, what, cut }));
}

for (const kind of ['xfs', 'btrfs'] as const) {
  t.test(`an interrupted swap or undo on ${kind} leaves everything as before or everything restored`, async (t) => {
    const b = await bed(t, kind);
    const ends = await endsOf(t, b);
    const unplugged = { before: withoutMount(ends.before), after: withoutMount(ends.after) };
    for (const what of ['commit', 'undo'] as const) {
      const all = await attemptsOf(b, what, false);
      const stride = Math.ceil(all.length / points.others);
      const chosen = all.filter((one, n) => n % stride === seed % stride && isWanted(nameOf(one)));
      t.ok(all.length > 100, `${what}: ${chosen.length} of ${all.length} points`);
      for (const [n, one] of chosen.entries()) {
        const cut = kind === 'xfs' && n % 2 === 1; // btrfs has no ioctl for a shutdown
        await attempt(t, b, cut ? unplugged : ends, { ...one, cut });
      }
    }
  });
}

for (const cut of [false, true]) {
  t.test(
    `${cut ? 'a power cut' : 'a kill'} at any call of a swap or an undo leaves everything as before or everything restored`,
    async (t) => {
      const beds = await Promise.all(Array.from({ length: points.disks }, () => bed(t)));
      const [first] = beds;
      if (first === undefined) throw new Error('there is no disk');
      const ends = await endsOf(t, first);
      const known = cut ? { before: withoutMount(ends.before), after: withoutMount(ends.after) } : ends;
      for (const what of ['commit', 'undo'] as const) {
        const all = await attemptsOf(first, what, cut);
        const stride = cut ? points.cutStride : points.stride;
        const isChosen = (one: Attempt, n: number) => n % stride === seed % stride || always.test(nameOf(one));
        const chosen = all.filter((one, n) => isChosen(one, n) && isWanted(nameOf(one)));
        t.ok(all.length > 100, `${what}: ${chosen.length} of ${all.length} points`);
        const left = chosen.values(); // each disk takes the next one
        await Promise.all(
          beds.map(async (b) => {
            for (const one of left) await attempt(t, b, known, one);
          }),
        );
      }
    },
  );
}

t.test('a kill during the rename of an immutable file loses none of its flags', async (t) => {
  const b = await bed(t);
  const ends = await endsOf(t, b);
  for (const what of ['commit', 'undo'] as const) {
    await fillDisk(b.disk);
    if (what === 'undo') await run(b, 'commit');
    const all = await unlockedRenames(b, what);
    if (what === 'commit') await run(b, 'undo');
    await emptyBed(b);
    const chosen = all.filter((one, n) => n % Math.min(points.stride, 3) === 0 && isWanted(nameOf({ ...one, what, cut: false })));
    t.ok(all.length > 1, `${what}: ${chosen.length} of ${all.length} renames`);
    for (const one of chosen) await attempt(t, b, ends, { ...one, what, cut: false });
  }
});

t.test('the journal of a swap lists the places for its undo', async (t) => {
  const b = await bed(t);
  await fillDisk(b.disk);
  await run(b, 'commit');
  const [name = ''] = await readdir(b.journals);
  t.match(JSON.parse(await readFile(join(b.journals, name), 'utf8')), {
    phase: 'done',
    places: [{ way: 'contents' }, {}, {}, { kind: 'file' }],
  });
  await emptyBed(b);
});
