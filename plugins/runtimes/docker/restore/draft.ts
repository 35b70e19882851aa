import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { type Committed, type Draft, PluginError, type RestorePlan } from '../../../../core/contract/index.js';
import { missingConflicts } from '../../../shared/conflicts.js';
import { isPartial } from '../../../shared/placement.js';
import { realPath } from '../../../shared/presence.js';
import {
  carryPlace,
  fillFolder,
  keepTime,
  makeParents,
  makeScratch,
  noteChange,
  type Place,
  planParents,
  removeParents,
  syncFilled,
} from '../../../shared/swap/index.js';
import { engine } from '../engine/engine.js';
import { bringImage, hasImage, withImageName } from '../engine/images.js';
import { checkName, type Inspect, nameOf } from '../engine/inspect.js';
import { fields, text } from '../engine/json.js';
import { ensureNetworks } from '../engine/networks.js';
import { emptyWholeRoot, hideImage, isWholeRoot } from '../whole-root.js';
import { type CommitDeps, commitDraft } from './commit.js';
import { missingMounts } from './conflicts.js';
import { createRequest } from './create-request.js';
import { type Journal, noOwn, temporaryName } from './journal.js';
import { type Layout, planPlaces } from './layout.js';
import { type Decision, decidePlaces } from './placement.js';
import { refuseLacks } from './references.js';
import { applyRemap } from './remap.js';
import { discardDraft, revertSwap } from './undo.js';

interface Plans {
  readonly plan: RestorePlan;
  /** The container to create. */
  readonly inspect: Inspect;
  /** Where its mounts go. */
  readonly decisions: readonly Decision[];
  /** The container to replace. */
  readonly current?: Inspect;
}

/** A container in the making. The journal names each thing before it exists. */
class DockerDraft implements Draft {
  private ended = false;
  private restart: unknown;
  private layer: { readonly upper: string; readonly lower: readonly string[] } | undefined;
  private made: Promise<ReadonlyMap<string, string>> | undefined;
  private layout: Layout | undefined;

  constructor(
    private readonly deps: CommitDeps,
    private readonly plans: Plans,
    private readonly journal: Journal,
    private readonly signal: AbortSignal,
    readonly needsImage: boolean,
  ) {}

  private get digest(): string {
    return this.plans.plan.image?.digest ?? this.plans.inspect.imageId;
  }

  /** Whether only volumes are restored and the container stays. */
  private get isPart(): boolean {
    return isPartial(this.plans.plan);
  }

  private check(): void {
    if (this.ended) throw new PluginError('invalid', 'This draft has ended');
    if (this.signal.aborted) throw new PluginError('aborted', `Restoring ${this.plans.plan.container} was cancelled`);
  }

  private save(): Promise<void> {
    return this.deps.journals.write(this.journal);
  }

  private note<T>(list: T[], one: T): Promise<void> {
    list.push(one);
    return this.save();
  }

  async loadImage(source: Readable): Promise<void> {
    this.check();
    await bringImage(this.deps, this.journal, this.digest, source, this.signal);
  }

  async folders(): Promise<ReadonlyMap<string, string>> {
    this.check();
    this.made ??= this.make(); // a second call returns the same folders
    return this.made;
  }

  private async make(): Promise<ReadonlyMap<string, string>> {
    const { journal, plans } = this;
    const { client } = this.deps;
    this.layout = await planPlaces(client, { ...plans, id: journal.id }, { volume: (name) => this.note(journal.volumes, name) });
    journal.places.push(...this.layout.places.values());
    await this.save();
    for (const place of journal.places) await (place.way === 'made' ? makeAbove(place) : makeScratch(place, () => this.save()));
    await this.save();
    const folders = new Map([...this.layout.places].map(([name, place]) => [name, fillFolder(place)]));
    if (this.isPart) return folders;
    await ensureNetworks(this.deps, plans.inspect, journal, this.signal);
    const upper = await this.create(this.layout);
    for (const place of this.layout.places.values()) await emptyMade(place); // the engine copied the image's files into the new volume
    return plans.plan.sources.some(({ name }) => name === 'rootfs') ? new Map([['rootfs', upper], ...folders]) : folders;
  }

  private async create({ sources }: Layout): Promise<string> {
    const { journal } = this;
    const { inspect, decisions } = this.plans;
    const { client } = this.deps;
    const absent = decisions.filter(({ missing, mount }) => missing && mount.type === 'bind').map(({ after }) => after);
    const image = { digest: this.digest, wanted: text(inspect.config.Image), signal: this.signal };
    const { connect, restart } = await withImageName(this.deps, journal, image, async (reference) => {
      const made = createRequest(inspect, reference, sources);
      const path = `/containers/create?name=${temporaryName(journal)}`;
      const answer = await withFolders(absent, () => client.json('POST', path, { body: made.body }));
      journal.newId = text(fields(answer).Id);
      await this.save();
      return made;
    });
    this.restart = restart;
    for (const [network, EndpointConfig] of connect) {
      await client.json('POST', `/networks/${encodeURIComponent(network)}/connect`, { body: { Container: journal.newId, EndpointConfig } });
    }
    const { id, layer } = await engine.inspect(client, journal.newId);
    this.layer = { upper: text(layer.UpperDir), lower: text(layer.LowerDir).split(':').filter(Boolean) };
    if (this.layer.upper === '') this.layer = { upper: await emptyWholeRoot(client, id, inspect), lower: [] };
    return this.layer.upper;
  }

  async commit(): Promise<Committed> {
    this.check();
    const { journal, plans, layout, layer } = this;
    if (!layout || (!layer && !this.isPart)) throw new PluginError('invalid', 'Nothing was made yet: ask for the folders first');
    if (layer) await this.finishLayer(layer);
    await syncFilled(journal.places); // durable before anything that exists is touched
    const result = await commitDraft(this.deps, { ...plans, journal, restart: this.restart });
    this.ended = true;
    return result;
  }

  /** Carries the files that the run excludes from the container's layer over from the old layer. */
  private async finishLayer({ upper, lower }: { readonly upper: string; readonly lower: readonly string[] }): Promise<void> {
    const { plan, inspect, current } = this.plans;
    const root = plan.sources.find(({ name }) => name === 'rootfs');
    if (root && isWholeRoot(inspect)) await hideImage(upper, lower, inspect);
    const old = text(current?.layer.UpperDir);
    const excludes = root?.excludes ?? [];
    if (old !== '' && lower.length > 0 && excludes.length > 0) this.journal.places.push(carryPlace(old, upper, excludes));
  }

  async discard(): Promise<void> {
    if (this.ended) return;
    // an earlier revert failed; do it first, so that discarding removes nothing that it needs
    if (this.journal.phase === 'swap') await revertSwap(this.deps, this.journal);
    await discardDraft(this.deps, this.journal);
    await this.deps.journals.remove(this.journal);
    this.ended = true;
  }
}

async function makeAbove(place: Place): Promise<void> {
  await makeParents(place);
  if (place.above) place.above = await noteChange(place.above);
}

async function emptyMade({ way, live }: Place): Promise<void> {
  if (way !== 'made') return;
  for (const name of await readdir(live)) await rm(`${live}/${name}`, { recursive: true, force: true });
}

/** The engine refuses to create a container with a missing bind folder, so the folders exist during `action`. */
async function withFolders<T>([first, ...rest]: readonly string[], action: () => Promise<T>): Promise<T> {
  if (first === undefined) return action();
  const path = await realPath(first);
  const parents = await planParents(`${path}/.`);
  return keepTime(dirname(parents[0]?.path ?? path), async () => {
    await mkdir(path, { recursive: true });
    try {
      return await withFolders(rest, action);
    } finally {
      await removeParents({ parents });
    }
  });
}

/** Refuses missing mounts when the container to replace runs: it could not start again. @throws PluginError conflict */
function refuseMissing(plan: RestorePlan, decisions: readonly Decision[]): void {
  const [first] = missingConflicts(missingMounts(decisions));
  if (first) throw new PluginError('conflict', `${first.what}, and ${plan.container} runs: ${first.fix}`);
}

/** Checks the plan against the engine and opens its journal. @throws PluginError */
export async function openDraft(deps: CommitDeps, plan: RestorePlan, signal: AbortSignal): Promise<Draft> {
  checkName(plan.container);
  const inspect = applyRemap(plan);
  const holder = (await engine.containers(deps.client)).some((one) => nameOf(one) === plan.container);
  if (plan.action === 'create' && holder) throw new PluginError('exists', `A container named ${plan.container} exists: replace it`);
  if (plan.action === 'replace' && !holder) throw new PluginError('not_found', `There is no container named ${plan.container}`);
  await refuseLacks(deps.client, plan, inspect);
  const current = holder ? await engine.inspect(deps.client, plan.container) : undefined;
  const decisions = await decidePlaces(deps.client, plan, inspect, current);
  if (current && current.state !== 'stopped') refuseMissing(plan, decisions);
  const journal = deps.journals.create(plan.container, noOwn());
  await deps.journals.write(journal);
  try {
    const needsImage = !(await hasImage(deps, journal, plan.image?.digest ?? inspect.imageId, signal));
    return new DockerDraft(deps, { plan, inspect, decisions, ...(current && { current }) }, journal, signal, needsImage);
  } catch (error) {
    await discardDraft(deps, journal);
    await deps.journals.remove(journal);
    throw error;
  }
}
