import { randomBytes } from 'node:crypto';
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type MovedFiles, packLevel } from '../../core/archive/index.js';
import { descendants } from '../system/bed/process-tree.js';
import { codeOf, folderSource, never, temporary } from '../system/hostile/archive-samples.js';
import { withSandboxCommands } from '../system/hostile/sandbox-commands.js';

const say = (...lines: readonly string[]): string => lines.map((line) => `echo "${line}" >&2`).join('\n');
const given = say('tar: Exiting with failure status due to previous errors');

/** How tar may end, whether its level counts, and how many files it says moved. */
const endings: readonly { title: string; script: string; fine: boolean; moved?: number }[] = [
  { title: 'well', script: 'echo level', fine: true },
  { title: 'with a changed file', script: `${say('tar: ./f: file changed as we read it')}\nexit 1`, fine: true, moved: 1 },
  { title: 'with a vanished file', script: `${say('tar: ./f: File removed before we read it')}\nexit 1`, fine: true, moved: 1 },
  {
    title: 'with a shrunk file',
    script: `${say('tar: ./f: File shrank by 5 bytes; padding with zeros')}\nexit 1`,
    fine: true,
    moved: 1,
  },
  {
    title: 'with a file that vanished earlier',
    script: `${say('tar: ./f: Cannot stat: No such file or directory')}\n${given}\nexit 2`,
    fine: true,
    moved: 1,
  },
  {
    title: 'with a file that may not be read',
    script: `${say('tar: ./f: Cannot open: Permission denied')}\n${given}\nexit 2`,
    fine: false,
  },
  {
    title: 'with a disk that fails',
    script: `${say('tar: ./f: Read error at byte 0, while reading 512 bytes: Input/output error')}\n${given}\nexit 1`,
    fine: false,
  },
  {
    title: 'with one that vanished and one that fails',
    script: `${say('tar: ./f: File removed before we read it', 'tar: ./g: Cannot open: Input/output error')}\n${given}\nexit 2`,
    fine: false,
  },
  { title: 'well, but with words nobody knows', script: say('tar: ./f: something new'), fine: false },
  { title: 'with 1 and no word', script: 'echo level; exit 1', fine: false },
  { title: 'with 2 and no word', script: 'echo level; exit 2', fine: false },
  {
    title: 'with an exit code of its own',
    script: `${say('tar: ./f: File removed before we read it')}\nexit 3`,
    fine: false,
  },
  { title: 'killed', script: 'echo level; exit 137', fine: false },
  {
    title: 'killed while it says that a file changed',
    script: `${say('tar: ./f: file changed as we read it')}\nexit 137`,
    fine: false,
  },
];

t.test('a level is accepted only when tar ended in an expected way', async (t) => {
  const folder = await temporary(t);
  await writeFile(join(folder, 'file'), '');
  for (const { title, script, ...expected } of endings) {
    const source = folderSource(join(folder, 'file'), { kind: 'file' }); // has no snapshot file, which this tar would not write
    const plan = { source, compression: 'none', snapshot: join(folder, 'snar'), reference: Date.now(), looks: true } as const;
    let moved: MovedFiles | undefined;
    const code = await withSandboxCommands(join(folder, 'commands'), { tar: script }, async () =>
      codeOf(
        packLevel(plan, never, () => undefined).then(async (level) => {
          await buffer(level.stream);
          moved = await level.moved;
        }),
      ),
    );
    t.equal(code, expected.fine ? 'fine' : 'failed', `tar ends ${title}`);
    t.equal(moved?.count, expected.moved, `and how many moved is known`);
  }
});

/** Reads a source whose reader stops after the first bytes, lets `meanwhile` happen, and reads on. */
async function packedAround(t: Test, meanwhile: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(await temporary(t), 'source');
  await mkdir(folder);
  await writeFile(join(folder, 'a-large'), randomBytes(8 << 20));
  for (const name of ['goes', 'shrinks', 'stays']) await writeFile(join(folder, name), Buffer.alloc(100_000, name));
  const plan = {
    source: folderSource(folder),
    compression: 'none',
    snapshot: `${folder}.snar`,
    reference: Date.now(),
    looks: true,
  } as const;
  return codeOf(
    packLevel(plan, never, () => undefined).then(async ({ stream }) => {
      const chunks = stream[Symbol.asyncIterator]();
      await chunks.next();
      await sleep(100); // tar has filled its pipe and waits
      await meanwhile(folder);
      while (!(await chunks.next()).done);
    }),
  );
}

t.test('changes while tar reads do not fail a level', async (t) => {
  const changes: Readonly<Record<string, (folder: string) => Promise<void>>> = {
    'a file goes': (folder) => rm(join(folder, 'goes')),
    'a file shrinks': (folder) => truncate(join(folder, 'a-large'), 7 << 20),
    'a file is written to': (folder) => writeFile(join(folder, 'a-large'), 'x', { flag: 'a' }),
    nothing: async () => undefined,
  };
  for (const [title, change] of Object.entries(changes)) t.equal(await packedAround(t, change), 'fine', title);
});

/** The processes below this one that run the command. */
const running = (name: string): number[] => descendants(process.pid).flatMap((one) => (one.name === name ? [one.pid] : []));

t.test('a killed tar and a reader that gives up end a level', async (t) => {
  const killed = packedAround(t, async () => {
    for (const pid of running('tar')) process.kill(pid, 'SIGKILL');
  });
  t.equal(await killed, 'failed');
  const folder = await temporary(t);
  await writeFile(join(folder, 'large'), randomBytes(8 << 20));
  const plan = {
    source: folderSource(folder),
    compression: 'zstd',
    snapshot: `${folder}/../s-${process.pid}`,
    reference: 0,
    looks: true,
  } as const;
  t.teardown(() => rm(plan.snapshot, { force: true }));
  const { stream } = await packLevel(plan, never, () => undefined);
  await stream[Symbol.asyncIterator]().next();
  stream.destroy();
  await sleep(300);
  t.same(running('tar'), [], 'no tar is left behind');
  const abort = new AbortController();
  const aborted = packLevel(plan, abort.signal, () => undefined).then(({ stream }) => buffer(stream));
  abort.abort();
  t.equal(await codeOf(aborted), 'aborted');
});

t.test('a missing folder and a failed compressor end a level', async (t) => {
  const folder = await temporary(t);
  const plan = { compression: 'none', snapshot: join(folder, 's'), reference: Date.now(), looks: true } as const;
  const absent = packLevel({ ...plan, source: folderSource(join(folder, 'absent')) }, never, () => undefined);
  t.equal(await codeOf(absent.then(({ stream }) => buffer(stream))), 'failed');
  const failing = { zstd: 'head -c 100; exit 1' };
  const broken = await withSandboxCommands(join(folder, 'commands'), failing, async () =>
    codeOf(
      packLevel({ ...plan, compression: 'zstd', source: folderSource(folder) }, never, () => undefined).then(({ stream }) =>
        buffer(stream),
      ),
    ),
  );
  t.equal(broken, 'failed');
});
