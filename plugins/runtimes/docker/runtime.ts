import { setTimeout as delay } from 'node:timers/promises';
import type { PluginContext, RestorePlan, Runtime, Source } from '../../../core/contract/index.js';
import {
  type ContainerSummary,
  type Description,
  type Draft,
  type Image,
  PluginError,
  type Preview,
} from '../../../core/contract/index.js';
import { mountsInside } from '../../shared/mounts.js';
import { orAbsent } from '../../shared/presence.js';
import { ownExcludes, Swaps } from '../../shared/swap/index.js';
import { describe } from './describe.js';
import { type Client, createClient } from './engine/client.js';
import { engine } from './engine/engine.js';
import { saveImage } from './engine/images.js';
import { checkName, isHidden, nameOf, stateInList } from './engine/inspect.js';
import { fields, text } from './engine/json.js';
import { classifyMounts } from './engine/volumes.js';
import { listStoredMounts, rootSource } from './mounts.js';
import type { CommitDeps } from './restore/commit.js';
import { previewPlan } from './restore/conflicts.js';
import { openDraft } from './restore/draft.js';
import { openJournals } from './restore/journal.js';
import { swapEngine } from './restore/undo.js';
import { engineGrants } from './rights/grants.js';

const resumeTries = 6; // waits double from 100 ms, 3 s in all: longer than a short failure of the engine

/** The Docker engine behind one socket. Keeps no connection open between calls. */
export class DockerRuntime implements Runtime {
  readonly supports = Object.freeze({ pause: true, images: true });
  private readonly client: Client;
  private readonly deps: CommitDeps;

  constructor(private readonly context: PluginContext<{ readonly socket: string }>) {
    this.client = createClient(context.options.socket);
    const deps = { client: this.client, journals: openJournals(context.stateFolder), stateFolder: context.stateFolder };
    this.deps = { ...deps, swaps: new Swaps(deps.journals, swapEngine(deps), context.log) };
  }

  async version(): Promise<string> {
    return text(fields(await this.client.json('GET', '/version')).Version);
  }

  async *list(): AsyncIterable<ContainerSummary> {
    for (const row of await engine.containers(this.client)) {
      const name = nameOf(row);
      if (name === '' || isHidden(name)) continue;
      yield { id: name, name, image: text(row.Image), state: stateInList(row.State), type: 'docker' };
    }
  }

  async describe(id: string): Promise<Description> {
    return describe(this.client, checkName(id));
  }

  async sources(id: string): Promise<readonly Source[]> {
    const inspect = await engine.inspect(this.client, checkName(id));
    const found: Source[] = [await rootSource(inspect, () => engine.vfsRoot(this.client, inspect.id))];
    const { stored } = listStoredMounts(await classifyMounts(this.client, inspect)); // describe lists what is left out
    for (const { mount, kind, path, excludes, unavailable } of stored) {
      const origin = mount.type === 'volume' ? 'new' : 'host';
      const inner = (await mountsInside(path)).map(({ exclude }) => exclude);
      const source: Source = { name: mount.source_name, origin, kind, path, excludes: [...ownExcludes, ...excludes, ...inner] };
      found.push({ ...source, ...(unavailable !== undefined && { unavailable }) });
    }
    return found;
  }

  async image(id: string): Promise<Image | undefined> {
    const { imageId } = await engine.inspect(this.client, checkName(id));
    return (await engine.imageId(this.client, imageId)) === undefined ? undefined : saveImage(this.client, imageId);
  }

  async pause(id: string): Promise<AsyncDisposable> {
    const inspect = await engine.inspect(this.client, checkName(id));
    const running = inspect.state === 'running';
    if (running) await this.client.json('POST', `/containers/${inspect.id}/pause`);
    return { [Symbol.asyncDispose]: async () => (running ? this.resumeSurely(inspect.id) : undefined) }; // a pause by the owner stays
  }

  private async resumeSurely(id: string): Promise<void> {
    for (let n = 0; ; n += 1) {
      try {
        await orAbsent(this.resume(id));
        return;
      } catch (error) {
        if (n === resumeTries - 1) throw error;
        this.context.log('warn', `Thawing ${id} failed; trying again`, { error: String(error) });
        await delay(100 * 2 ** n);
      }
    }
  }

  async resume(id: string): Promise<void> {
    const inspect = await engine.inspect(this.client, checkName(id));
    if (inspect.state !== 'frozen') return;
    await this.client.json('POST', `/containers/${inspect.id}/unpause`).catch(async (error: unknown) => {
      if ((await engine.inspect(this.client, inspect.id)).state === 'frozen') throw error; // else another process has thawed it already
    });
  }

  async preview(plan: RestorePlan, { shares }: { readonly shares: readonly string[] }): Promise<Preview> {
    checkName(plan.container);
    return { ...(await previewPlan(this.client, plan)), grants: await engineGrants(this.client, plan, shares) };
  }

  async draft(plan: RestorePlan, o: { signal: AbortSignal }): Promise<Draft> {
    if (o.signal.aborted) throw new PluginError('aborted', `Restoring ${plan.container} was cancelled`);
    return openDraft(this.deps, plan, o.signal);
  }

  undo(id: string): Promise<void> {
    return this.deps.swaps.undo(id);
  }

  dropUndo(id: string): Promise<void> {
    return this.deps.swaps.drop(id);
  }

  recover(container?: string): Promise<void> {
    return this.deps.swaps.recover(container);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
