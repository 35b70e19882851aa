import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../contract/index.js';
import { archiveChild, checkedOutput, childExit } from './child.js';

/** `source` through a zstd child. The stream fails when the source or the child does. */
export function zstdStream(source: Readable, mode: 'compress' | 'decompress', signal: AbortSignal): Readable {
  const child = archiveChild('zstd', mode === 'compress' ? ['-3', '-T0', '-q', '-c'] : ['-d', '-q', '-c'], ['pipe', 'pipe', 'inherit']);
  const exit = childExit(child, 'zstd', signal);
  if (!child.stdin) throw new PluginError('failed', 'zstd has no input');
  const flow = pipeline(source, child.stdin, { signal });
  flow.catch(() => undefined); // told by the output's end
  return checkedOutput(child, async () => {
    await flow;
    const code = await exit;
    if (code !== 0) throw new PluginError('damaged', `zstd ended with ${code}`);
  });
}
