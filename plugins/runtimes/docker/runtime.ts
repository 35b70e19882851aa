import { setTimeout as delay } from 'node:timers/promises';
import type { PluginContext, RestorePlan, Runtime, Source } from '../../../core/contract/index.js';
import {
  type Conflict,
  type ContainerSummary,
  type Description,
  type Draft,
  type Image,
  PluginError,
} from '../../../core/contract/index.js';
import { mountsInside } from '../../shared/mounts.js';
import { type Client, createClient } from './client.js';
import { planConflicts } from './conflicts.js';
import { describe } from './describe.js';
import { openDraft } from './draft.js';
import { engine, orAbsent } from './engine.js';
import { savedImage } from './images.js';
import { checkName, isHidden, listedState, nameOf } from './inspect.js';
import { isAlive, readJournals } from './journal.js';
import { judge, namedMounts, rootSource } from './mounts.js';
import { fields, text } from './narrow.js';
import { dropUndo, takeOver, undoSwap } from './undo.js';

/** A mount point holds what an undo keeps of it. */
const undoExcludes = ['./.container-backup-*'] as const;

const resumeTries = 6; // with doubling waits from 100 ms: 3 s, more than an engine's short hiccup

/** The Docker engine behind one socket. Holds no connection between calls. */
export class DockerRuntime implements Runtime {
  readonly supports = Object.freeze({ pause: true, images: true });
  private readonly client: Client;

  constructor(private readonly context: PluginContext<{ readonly socket: string }>) {
    this.client = createClient(context.options.socket);
  }

  private get deps() {
    return { client: this.client, stateFolder: this.context.stateFolder };
  }

  async version(): Promise<string> {
    return text(fields(await this.client.json('GET', '/version')).Version);
  }

  async *list(): AsyncIterable<ContainerSummary> {
    for (const row of await engine.containers(this.client)) {
      const name = nameOf(row);
      if (name === '' || isHidden(name)) continue;
      yield { id: name, name, image: text(row.Image), state: listedState(row.State), type: 'docker' };
    }
  }

  async describe(id: string): Promise<Description> {
    return describe(this.client, checkName(id));
  }

  async sources(id: string): Promise<readonly Source[]> {
    const inspect = await engine.inspect(this.client, checkName(id));
    const found: Source[] = [await rootSource(inspect, () => engine.vfsRoot(this.client, inspect.id))];
    for (const mount of namedMounts(inspect)) {
      const judged = await judge(mount);
      if ('leftOut' in judged) continue; // describe tells it
      const origin = mount.type === 'volume' ? 'new' : 'host';
      const inner = await mountsInside(judged.path);
      const excludes = [...undoExcludes, ...inner.map(({ exclude }) => exclude)];
      found.push({ name: mount.source_name, origin, kind: judged.kind, path: judged.path, excludes });
    }
    return found;
  }

  async image(id: string): Promise<Image | undefined> {
    const { imageId } = await engine.inspect(this.client, checkName(id));
    return (await engine.imageId(this.client, imageId)) === undefined ? undefined : savedImage(this.client, imageId);
  }

  async pause(id: string): Promise<AsyncDisposable> {
    const inspect = await engine.inspect(this.client, checkName(id));
    const running = inspect.state === 'running';
    if (running) await this.client.json('POST', `/containers/${inspect.id}/pause`);
    return { [Symbol.asyncDispose]: async () => (running ? this.resumeSurely(inspect.id) : undefined) }; // its owner's pause stays
  }

  private async resumeSurely(id: string): Promise<void> {
    for (let n = 0; ; n += 1) {
      try {
        await orAbsent(this.resume(id));
        return;
      } catch (error) {
        if (n === resumeTries - 1) throw error;
        this.context.log('warn', `Thawing ${id} failed, trying again`, { error: String(error) });
        await delay(100 * 2 ** n);
      }
    }
  }

  async resume(id: string): Promise<void> {
    const inspect = await engine.inspect(this.client, checkName(id));
    if (inspect.state !== 'frozen') return;
    await this.client.json('POST', `/containers/${inspect.id}/unpause`).catch(async (error: unknown) => {
      if ((await engine.inspect(this.client, inspect.id)).state === 'frozen') throw error; // somebody else was quicker otherwise
    });
  }

  async conflicts(plan: RestorePlan): Promise<readonly Conflict[]> {
    checkName(plan.container);
    return planConflicts(this.client, plan);
  }

  async draft(plan: RestorePlan, o: { signal: AbortSignal }): Promise<Draft> {
    if (o.signal.aborted) throw new PluginError('aborted', `Restoring ${plan.container} was stopped`);
    return openDraft(this.deps, plan, o.signal);
  }

  undo(id: string): Promise<void> {
    return undoSwap(this.deps, id);
  }

  dropUndo(id: string): Promise<void> {
    return dropUndo(this.deps, id);
  }

  async recover(container?: string): Promise<void> {
    const errors: unknown[] = [];
    for (const journal of await readJournals(this.context.stateFolder)) {
      if (container !== undefined && journal.container !== container) continue;
      if (isAlive(journal) || (journal.phase === 'done' && journal.undoUntil >= Date.now())) continue;
      this.context.log('info', `Cleaning up after an interrupted restore of ${journal.container}`, { phase: journal.phase });
      await takeOver(this.deps, journal).catch((error: unknown) => errors.push(error)); // the others are still looked after
    }
    if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
