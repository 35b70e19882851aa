import { createWriteStream } from 'node:fs';
import { dirname } from 'node:path';
import { type Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { anySignal, PluginError } from '../../contract/index.js';
import { archiveChild, childExit, errorsOf } from '../../primitives/child.js';
import type { ArchiveEntry, StoredFile } from '../record/manifest.js';
import { Meter } from './meter.js';
import { confineTar, restoredAttributes } from './sandbox.js';

/** @throws PluginError damaged: size or hash of the stored bytes differs from the manifest */
export function checkStored(meter: Meter, file: StoredFile): void {
  if (meter.bytes === file.stored_bytes && meter.sha256 === file.sha256) return;
  throw new PluginError(
    'damaged',
    `${file.path} is damaged: ${meter.bytes} bytes with SHA-256 ${meter.sha256}, the manifest says ${file.stored_bytes} with ${file.sha256}; choose another run`,
  );
}

/** A sink that forwards to the child's stdin, and drains the rest once the child has closed it: tar stops at the end-of-archive
 *  marker without waiting for the end of its input, so EPIPE is no error. */
function intoChild(stdin: Writable): Writable {
  stdin.on('error', () => undefined); // EPIPE of a child that ended early; its exit code decides
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
      // 'finish' comes when all bytes are in the pipe; ending earlier would lose what is still buffered
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

/** Pipes the stored bytes into a child. Resolves only when exit code, byte count and hash are right. @throws PluginError */
async function fed(
  child: ReturnType<typeof archiveChild>,
  { name, room }: { readonly name: string; readonly room: string },
  file: StoredFile,
  stored: Readable,
  signal: AbortSignal,
): Promise<void> {
  const said = errorsOf(child, 4096);
  const exit = childExit(child, name, signal);
  const meter = new Meter();
  if (!child.stdin) throw new PluginError('failed', `${name} has no input`);
  const outOfSpace = () => /No space left on device|: Wrote only \d+ of \d+ bytes/.test(said());
  const failed = new AbortController();
  exit.then(
    (code) => code !== 0 && outOfSpace() && failed.abort(), // else read on: the hash tells whether the archive is at fault
    () => failed.abort(),
  );
  let broken: unknown; // the source failed before the child had ended
  const flow = pipeline(stored, meter, intoChild(child.stdin), { signal: anySignal(signal, failed.signal) });
  flow.catch((error: unknown) => {
    if (!failed.signal.aborted) broken = error;
  });
  const [, end] = await Promise.allSettled([flow, exit]);
  if (signal.aborted) throw new PluginError('aborted', 'cancelled', { cause: signal.reason });
  if (broken !== undefined) throw broken;
  if (end.status === 'rejected') throw end.reason;
  if (end.value !== 0) {
    if (outOfSpace()) throw new PluginError('no_space', `there is no space to extract ${file.path}: free some space ${room}`);
    checkStored(meter, file);
    throw new PluginError('failed', `${file.path} is undamaged, but could not be extracted: ${said().trim().slice(0, 500)}`);
  }
  checkStored(meter, file);
}

/** Extracts one level into a folder. Extract a source's levels in order; entries that a level lists as removed are deleted.
 *  @throws PluginError damaged, no_space, failed, aborted */
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
      '--blocking-factor=64', // bytes per read; the archive may have been written with another factor
      ...(archive.compression === 'zstd' ? ['--use-compress-program=zstd -q'] : []),
      ...(kind === 'folder' ? ['--listed-incremental=/dev/null'] : []),
      ...restoredAttributes,
    ],
    ['pipe', 'ignore', 'pipe'],
  );
  return fed(child, { name: 'tar', room: 'where containers and volumes lie' }, archive, stored, signal);
}

/** Copies a stored file to this machine. @throws PluginError damaged, aborted, and as the target */
export async function fetchFile(file: StoredFile, path: string, stored: Readable, signal: AbortSignal): Promise<void> {
  const meter = new Meter();
  await pipeline(stored, meter, createWriteStream(path, { mode: 0o600 }), { signal });
  checkStored(meter, file);
}

/** Unpacks a zstd file (tar's snapshot file) onto this machine. @throws PluginError damaged, no_space, failed, aborted */
export async function unpackFile(file: StoredFile, path: string, stored: Readable, signal: AbortSignal): Promise<void> {
  // Without --no-sparse zstd exits with 0 when the disk gets full at the end of the file.
  const child = archiveChild('zstd', ['-d', '-q', '-f', '--no-sparse', '-o', path], ['pipe', 'ignore', 'pipe']);
  await fed(child, { name: 'zstd', room: `in ${dirname(path)}` }, file, stored, signal);
}
