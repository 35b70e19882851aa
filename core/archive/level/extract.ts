import { dirname } from 'node:path';
import { type Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { anySignal, PluginError } from '../../contract/index.js';
import { archiveChild, childExit } from '../../primitives/child.js';
import type { ArchiveEntry, StoredFile } from '../record/manifest.js';
import { Meter } from './meter.js';
import { confineTar } from './sandbox.js';

/** @throws PluginError damaged when what came is not what the manifest says */
export function checkStored(meter: Meter, file: StoredFile): void {
  if (meter.bytes === file.stored_bytes && meter.sha256 === file.sha256) return;
  throw new PluginError(
    'damaged',
    `${file.path} is damaged: ${meter.bytes} bytes with SHA-256 ${meter.sha256}, the manifest says ${file.stored_bytes} with ${file.sha256}; choose another run`,
  );
}

/** Takes all that comes, and gives it to the child as long as that listens: tar ends at the archive's end without
 *  waiting for the end of its input, which is no failure. */
function intoChild(stdin: Writable): Writable {
  stdin.on('error', () => undefined); // a child that ended early: its exit code tells
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (stdin.destroyed || stdin.write(chunk)) return done();
      const go = () => {
        stdin.off('drain', go).off('close', go);
        done();
      };
      stdin.on('drain', go).on('close', go);
    },
    final(done) {
      if (stdin.destroyed) return done();
      // only when all has left for the child is this at its end: what still waits here would be lost with it
      const go = () => {
        stdin.off('finish', go).off('close', go);
        done();
      };
      stdin.on('finish', go).on('close', go);
      stdin.end();
    },
    destroy(error, done) {
      if (error) stdin.destroy();
      done(error);
    },
  });
}

/** Feeds the stored bytes to a child and checks its exit code, the byte count and the hash; only then is it done. */
async function fed(
  child: ReturnType<typeof archiveChild>,
  { name, room }: { readonly name: string; readonly room: string },
  file: StoredFile,
  stored: Readable,
  signal: AbortSignal,
): Promise<void> {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < 4096) said += text;
  });
  const exit = childExit(child, name, signal);
  const meter = new Meter();
  if (!child.stdin) throw new PluginError('failed', `${name} has no input`);
  const outOfSpace = () => /No space left on device|: Wrote only \d+ of \d+ bytes/.test(said);
  const failed = new AbortController();
  exit.then(
    (code) => code !== 0 && outOfSpace() && failed.abort(), // else the rest is read too: was it the archive's fault?
    () => failed.abort(),
  );
  let broken: unknown; // of the source, before the child had ended
  const flow = pipeline(stored, meter, intoChild(child.stdin), { signal: anySignal(signal, failed.signal) });
  flow.catch((error: unknown) => {
    if (!failed.signal.aborted) broken = error;
  });
  const [, end] = await Promise.allSettled([flow, exit]);
  if (signal.aborted) throw new PluginError('aborted', 'stopped', { cause: signal.reason });
  if (broken !== undefined) throw broken;
  if (end.status === 'rejected') throw end.reason;
  if (end.value !== 0) {
    if (outOfSpace()) throw new PluginError('no_space', `there is no space to extract ${file.path}: free some ${room}`);
    checkStored(meter, file);
    throw new PluginError('failed', `${file.path} is whole and could not be extracted: ${said.trim().slice(0, 500)}`);
  }
  checkStored(meter, file);
}

/** Extracts one level into a folder. Levels of a source go in order; entries a level knows as gone are deleted. */
export function extractLevel(
  archive: ArchiveEntry,
  kind: 'folder' | 'file',
  folder: string,
  stored: Readable,
  signal: AbortSignal,
): Promise<void> {
  const child = confineTar(
    { kind: 'folder', path: folder, access: 'write' },
    [
      '--extract',
      '--file=-',
      '--blocking-factor=64', // of what is read at a time; the archive may have another one
      ...(archive.compression === 'zstd' ? ['--use-compress-program=zstd -q'] : []),
      ...(kind === 'folder' ? ['--listed-incremental=/dev/null'] : []),
      '--xattrs',
      '--xattrs-include=*',
      '--acls',
      '--same-permissions',
      '--same-owner',
      '--numeric-owner',
    ],
    ['pipe', 'ignore', 'pipe'],
  );
  return fed(child, { name: 'tar', room: 'where containers and volumes lie' }, archive, stored, signal);
}

/** Unpacks a zstd file (a snapshot of tar's) onto this machine. */
export async function unpackFile(file: StoredFile, path: string, stored: Readable, signal: AbortSignal): Promise<void> {
  // Without --no-sparse zstd does not say that the disk is full when that shows at the file's end.
  const child = archiveChild('zstd', ['-d', '-q', '-f', '--no-sparse', '-o', path], ['pipe', 'ignore', 'pipe']);
  await fed(child, { name: 'zstd', room: `in ${dirname(path)}` }, file, stored, signal);
}
