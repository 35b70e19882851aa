/** What `make flash` writes to, and what it leaves alone. The disk is a loop device, the image some MiB of anything. */
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { repository } from './machine.js';

const run = promisify(execFile);
const board = 'generic-x86_64';
const content = randomBytes(5 << 20);

/** A folder as `make firmware` leaves it. */
async function newOutput(t: Test): Promise<string> {
  const out = t.testdir();
  const result = join(out, 'firmware', board);
  await mkdir(result, { recursive: true });
  await writeFile(join(out, 'disk.img'), content);
  const image = join(result, 'any.img.zst');
  await run('zstd', ['-q', join(out, 'disk.img'), '-o', image]);
  const sum = createHash('sha256')
    .update(await readFile(image))
    .digest('hex');
  await writeFile(`${image}.sha256`, `${sum}  any.img.zst\n`);
  await writeFile(join(result, 'manifest.json'), JSON.stringify({ files: { 'disk.img': { size: content.length } } }));
  return out;
}

async function newDisk(t: Test, folder: string, bytes = 16 << 20): Promise<string> {
  const file = join(folder, `disk-${bytes}`);
  await writeFile(file, '');
  await truncate(file, bytes);
  const { stdout } = await run('losetup', ['--find', '--show', file]);
  const device = stdout.trim();
  t.teardown(() => run('losetup', ['--detach', device]));
  return device;
}

/** @param answer to the question; none ends it */
async function flash(out: string, device: string, answer = ''): Promise<{ code: number | null; said: string }> {
  const env = { ...process.env, OUT: out, BOARD: board, DEVICE: device, YES: '' };
  const child = spawn(join(repository, 'firmware/image/flash'), { env, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => undefined); // it may end before it asks
  child.stdin.end(answer);
  const ended = new Promise<number | null>((resolve) => void child.once('close', resolve));
  const [said, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, said: said + errors };
}

async function refuses(t: Test, what: string, pattern: RegExp, answered: Promise<{ code: number | null; said: string }>): Promise<void> {
  const { code, said } = await answered;
  t.equal(code, 1, what);
  t.match(said, pattern, `${what}: it says why`);
}

const beginning = async (device: string): Promise<Buffer> => (await readFile(device)).subarray(0, content.length);

t.test('a disk whose name is written holds the image, and what lies behind it stays', async (t) => {
  const out = await newOutput(t);
  const device = await newDisk(t, out);
  const tail = randomBytes(1 << 20);
  await writeFile(device, Buffer.concat([Buffer.alloc(content.length), tail]));
  const { code, said } = await flash(out, device, `${device}\n`);
  t.equal(code, 0, said);
  t.match(said, /SIZE +MODEL/, 'it shows what disk that is');
  t.ok((await beginning(device)).equals(content), 'the image');
  t.ok((await readFile(device)).subarray(content.length, content.length + tail.length).equals(tail), 'and no more');
});

t.test('a disk is left alone when its name is not written', async (t) => {
  const out = await newOutput(t);
  const device = await newDisk(t, out);
  for (const answer of ['', 'yes\n', `${device}1\n`])
    await refuses(t, JSON.stringify(answer), /nothing was written/, flash(out, device, answer));
  t.ok((await beginning(device)).every((byte) => byte === 0));
});

t.test('a disk that is mounted, or that something else holds, is left alone', async (t) => {
  const out = await newOutput(t);
  const device = await newDisk(t, out);
  await run('mkfs.ext4', ['-q', device]);
  const before = await beginning(device);
  const folder = join(out, 'mounted');
  await mkdir(folder);
  await run('mount', ['-o', 'ro,noload', device, folder]);
  await refuses(t, 'mounted', /is in use/, flash(out, device, `${device}\n`));
  await run('umount', [folder]);
  t.ok((await beginning(device)).equals(before));
  // as a RAID or another program has it
  const hold = "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL); print('held', flush=True); sys.stdin.read()";
  const holder = spawn('python3', ['-c', hold, device], { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = new Promise((resolve) => void holder.once('close', resolve));
  await new Promise((resolve) => void holder.stdout.once('data', resolve));
  await refuses(t, 'held', /is in use/, flash(out, device, `${device}\n`));
  holder.stdin.end();
  await gone;
  t.ok((await beginning(device)).equals(before));
  t.equal((await flash(out, device, `${device}\n`)).code, 0, 'and taken once nobody has it');
});

t.test('what is no disk, too small a disk and a damaged image are told', async (t) => {
  const out = await newOutput(t);
  const { stdout } = await run('findmnt', ['-no', 'SOURCE', '/']);
  const system = stdout.trim();
  // Without an answer: should it not be refused, it is not written to either.
  if (system.startsWith('/dev/')) await refuses(t, "the system's own", /in use|not a whole disk/, flash(out, system));
  await refuses(t, 'a name that is mistyped', /there is no \/dev\/sdnothing/, flash(out, '/dev/sdnothing', '/dev/sdnothing\n'));
  await refuses(t, 'a folder', /neither a disk nor a file/, flash(out, out, `${out}\n`));
  const small = await newDisk(t, out, 4 << 20);
  await refuses(t, 'too small', /too small: 5242880 bytes/, flash(out, small, `${small}\n`));
  const device = await newDisk(t, out);
  await writeFile(join(out, 'firmware', board, 'any.img.zst'), 'x', { flag: 'a' });
  await refuses(t, 'damaged', /the image is damaged/, flash(out, device, `${device}\n`));
  t.ok((await beginning(device)).every((byte) => byte === 0));
});
