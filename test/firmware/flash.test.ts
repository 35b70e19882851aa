/** Tests which disks `make flash` writes, and which it leaves alone. The disk is a loop device; the image is random bytes. */
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

/** Makes a folder with the files of `make firmware`. */
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

/** Runs `flash`. @param answer to its question; '' closes its input */
async function flash(out: string, device: string, answer = ''): Promise<{ code: number | null; said: string }> {
  const env = { ...process.env, OUT: out, BOARD: board, DEVICE: device, YES: '' };
  const child = spawn(join(repository, 'firmware/image/flash'), { env, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => undefined); // it may exit before it asks
  child.stdin.end(answer);
  const ended = new Promise<number | null>((resolve) => void child.once('close', resolve));
  const [said, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, said: said + errors };
}

async function refuses(t: Test, what: string, pattern: RegExp, answered: Promise<{ code: number | null; said: string }>): Promise<void> {
  const { code, said } = await answered;
  t.equal(code, 1, what);
  t.match(said, pattern, `${what}: the message says why`);
}

const beginning = async (device: string): Promise<Buffer> => (await readFile(device)).subarray(0, content.length);

t.test('flash writes the image once the name of the disk is confirmed, and leaves the rest of the disk alone', async (t) => {
  const out = await newOutput(t);
  const device = await newDisk(t, out);
  const tail = randomBytes(1 << 20);
  await writeFile(device, Buffer.concat([Buffer.alloc(content.length), tail]));
  const { code, said } = await flash(out, device, `${device}\n`);
  t.equal(code, 0, said);
  t.match(said, /SIZE +MODEL/, 'flash shows the disk');
  t.ok((await beginning(device)).equals(content), 'the image');
  t.ok((await readFile(device)).subarray(content.length, content.length + tail.length).equals(tail), 'the rest is unchanged');
});

t.test('flash writes nothing when the name of the disk is not confirmed', async (t) => {
  const out = await newOutput(t);
  const device = await newDisk(t, out);
  for (const answer of ['', 'yes\n', `${device}1\n`])
    await refuses(t, JSON.stringify(answer), /nothing was written/, flash(out, device, answer));
  t.ok((await beginning(device)).every((byte) => byte === 0));
});

t.test('flash refuses a disk that is mounted or open elsewhere', async (t) => {
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
  // O_EXCL: as a RAID or another program holds it
  const hold = "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL); print('held', flush=True); sys.stdin.read()";
  const holder = spawn('python3', ['-c', hold, device], { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = new Promise((resolve) => void holder.once('close', resolve));
  await new Promise((resolve) => void holder.stdout.once('data', resolve));
  await refuses(t, 'held', /is in use/, flash(out, device, `${device}\n`));
  holder.stdin.end();
  await gone;
  t.ok((await beginning(device)).equals(before));
  t.equal((await flash(out, device, `${device}\n`)).code, 0, 'flash writes it when nothing holds it any more');
});

t.test('flash refuses a folder, a missing device, a disk that is too small, and a damaged image', async (t) => {
  const out = await newOutput(t);
  const { stdout } = await run('findmnt', ['-no', 'SOURCE', '/']);
  const system = stdout.trim();
  // Gives no answer, so that nothing is written even if flash does not refuse.
  if (system.startsWith('/dev/')) await refuses(t, "the system's disk", /in use|not a whole disk/, flash(out, system));
  await refuses(t, 'a mistyped name', /there is no \/dev\/sdnothing/, flash(out, '/dev/sdnothing', '/dev/sdnothing\n'));
  await refuses(t, 'a folder', /neither a disk nor a file/, flash(out, out, `${out}\n`));
  const small = await newDisk(t, out, 4 << 20);
  await refuses(t, 'too small', /too small: 5242880 bytes/, flash(out, small, `${small}\n`));
  const device = await newDisk(t, out);
  await writeFile(join(out, 'firmware', board, 'any.img.zst'), 'x', { flag: 'a' });
  await refuses(t, 'damaged', /the image is damaged/, flash(out, device, `${device}\n`));
  t.ok((await beginning(device)).every((byte) => byte === 0));
});
