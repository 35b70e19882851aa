import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../contract/index.js';
import { archiveChild, checkedOutput, childExit } from './child.js';

/** Level 3 is zstd's default: 292–332 MB/s a core. Jobs of 1 MiB instead of 8 bound its memory, which grows with the cores:
 *  13 MiB instead of 63 with two, 34 instead of 176 with sixteen. It costs time: 1.2 GB of a Debian root took two cores
 *  5.6 s instead of 4.6 (4 MiB: 4.6 s and 37 MiB). */
export const zstdFlags = ['-3', '-T0', '-B1MiB', '-q'] as const;

function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EPIPE' || error.code === 'ERR_STREAM_PREMATURE_CLOSE');
}

/** `source` through a zstd child. The stream fails when the source or the child does. */
export function zstdStream(source: Readable, mode: 'compress' | 'decompress', signal: AbortSignal): Readable {
  const child = archiveChild('zstd', mode === 'compress' ? [...zstdFlags, '-c'] : ['-d', '-q', '-c'], ['pipe', 'pipe', 'inherit']);
  const exit = childExit(child, 'zstd', signal);
  if (!child.stdin) throw new PluginError('failed', 'zstd has no input');
  const flow = pipeline(source, child.stdin, { signal });
  flow.catch(() => undefined); // told by the output's end
  return checkedOutput(child, async () => {
    const [moved, end] = await Promise.allSettled([flow, exit]);
    if (end.status === 'rejected') throw end.reason;
    // A child that refuses what it gets closes its input: then its exit code says more than the broken pipe.
    if (moved.status === 'rejected' && !(end.value !== 0 && isBrokenPipe(moved.reason))) throw moved.reason;
    const code = end.value;
    if (code !== 0) throw new PluginError('damaged', `zstd ended with ${code}`);
  });
}
