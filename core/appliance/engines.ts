/** The container engines that the main thread keeps open: for lists, for versions, and to resume containers that a dead worker
 *  paused. */
import { type ContainerSummary, PluginError, type PluginLog, type Runtime } from '../contract/index.js';
import type { Plugins } from '../plugins/index.js';
import { settleWithin } from '../primitives/deadline.js';

export interface Engines {
  /** @throws PluginError not_found: no such plugin */
  runtime(id: string): Runtime;
  /** The containers of all engines that answer, or of one. @throws PluginError unavailable: that one does not answer */
  containers(type?: string): Promise<ContainerSummary[]>;
  /** Versions by plugin id; '' for an engine that does not answer. */
  versions(): Promise<Readonly<Record<string, string>>>;
  /** Reverts or finishes restores that were interrupted when the service died. Logs an engine that does not answer. */
  recover(): Promise<void>;
  close(): Promise<void>;
}

/** An engine that does not answer must not hang every list. */
const answerMs = 5_000;

/** @throws PluginError unavailable when the engine does not answer */
export function inTime<T>(action: Promise<T>, id: string): Promise<T> {
  return settleWithin(answerMs, action, () => new PluginError('unavailable', `${id} does not answer`, { retryable: true }));
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Opens every valid runtime plugin. A plugin that cannot be opened is logged and counts as absent. */
export async function openEngines(
  plugins: Plugins,
  options: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  o: { readonly signal: AbortSignal; readonly log: PluginLog },
): Promise<Engines> {
  const runtimes = new Map<string, Runtime>();
  for (const { id, kind, ok } of plugins.reports) {
    if (!ok || kind !== 'runtime') continue;
    try {
      runtimes.set(id, await plugins.openRuntime(id, options[id] ?? {}, o));
    } catch (error) {
      o.log('warn', `runtime ${id} cannot be opened: ${error}`);
      plugins.refuse(id, error instanceof Error ? error.message : String(error));
    }
  }
  return enginesOf(runtimes, o.log);
}

function enginesOf(runtimes: ReadonlyMap<string, Runtime>, log: PluginLog): Engines {
  const runtime = (id: string): Runtime => {
    const found = runtimes.get(id);
    if (!found) throw new PluginError('not_found', `there is no runtime plugin ${id}`);
    return found;
  };
  const quietly = async <T>(id: string, action: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await inTime(action, id);
    } catch (error) {
      log('debug', `${id}: ${error}`);
      return otherwise;
    }
  };
  return {
    runtime,
    async containers(type) {
      if (type !== undefined) return runtimes.has(type) ? inTime(all(runtime(type).list()), type) : [];
      const lists = [...runtimes].map(([id, one]) => quietly(id, all(one.list()), []));
      return (await Promise.all(lists)).flat();
    },
    async versions() {
      const pairs = [...runtimes].map(async ([id, one]) => [id, await quietly(id, one.version(), '')] as const);
      return Object.fromEntries(await Promise.all(pairs));
    },
    async recover() {
      for (const [id, one] of runtimes) {
        await one
          .recover()
          .catch((error: unknown) => log('warn', `${id}: cleaning up after an interrupted restore failed and is tried again: ${error}`));
      }
    },
    async close() {
      for (const one of runtimes.values()) await one[Symbol.asyncDispose]();
    },
  };
}
