/** A process of its own in which a target works as in the service: opened by its plugin, under the policy. Takes one request. */
import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Stored, Target } from '../../../core/contract/index.js';
import { loadPlugins, type Plugins } from '../../../core/plugins/index.js';
import { Bandwidth, withPolicy } from '../../../core/policy/index.js';

export interface Request {
  readonly plugin: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly direction: 'write' | 'read';
  readonly path: string;
  /** What is written. */
  readonly source: string;
}

export interface Answer {
  /** Until the target was open. */
  readonly opened: number;
  readonly bytes: number;
  /** Where the pieces lie, when it is kept in pieces. */
  readonly pieces?: string;
  readonly error?: string;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

export function isAnswer(value: unknown): value is Answer {
  return isObject(value) && typeof value.bytes === 'number';
}

function isRequest(value: unknown): value is Request {
  return isObject(value) && ['plugin', 'direction', 'path', 'source'].every((name) => typeof value[name] === 'string');
}

const { signal } = new AbortController();
const log = (level: string, message: string): void => {
  if (level !== 'debug') console.error(`${level}: ${message}`); // a try that was repeated is worth to be known
};

async function moved(target: Target, { direction, path, source }: Request): Promise<Stored> {
  if (direction === 'write') return target.put(path, createReadStream(source, { highWaterMark: 1 << 20 }), { signal });
  let bytes = 0;
  for await (const chunk of await target.get(path, { signal })) if (chunk instanceof Uint8Array) bytes += chunk.length;
  return { bytes };
}

async function work(request: Request, plugins: Plugins): Promise<Answer> {
  const began = performance.now();
  const opened = await plugins.openTarget(request.plugin, request.options, { log, signal });
  await using target = withPolicy(opened, { name: 'nas', bandwidth: new Bandwidth(), stallMs: 120_000, signal, log });
  const openedAfter = (performance.now() - began) / 1000;
  const { bytes, pieces } = await moved(target, request);
  return { opened: openedAfter, bytes, ...(pieces !== undefined && { pieces: pieces.folder }) };
}

const targets = new URL('../../../plugins/targets/', import.meta.url);

/** The parent is told when all is done, and ends this process. */
async function serve(stateFolder: string, plugin: string): Promise<void> {
  const plugins = await loadPlugins([fileURLToPath(targets)], stateFolder);
  await import(new URL(`${plugin}/index.js`, targets).href); // a service has its modules loaded
  process.once('message', (request: unknown) => {
    const working = isRequest(request) ? work(request, plugins) : Promise.reject(new Error('no request'));
    const failed = (error: unknown): Answer => ({ opened: 0, bytes: 0, error: error instanceof Error ? error.message : String(error) });
    working.catch(failed).then((answer) => process.send?.(answer));
  });
  process.once('disconnect', () => process.exit());
  process.send?.('ready');
}

const [, script, stateFolder = '', plugin = ''] = process.argv;
if (script === fileURLToPath(import.meta.url)) await serve(stateFolder, plugin);
