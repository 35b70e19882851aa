import { randomBytes } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { type Conflict, type Draft, PluginError, type RestorePlan } from '../../../core/contract/index.js';
import { childOutput } from '../../shared/child.js';
import { commitDraft } from './commit.js';
import { engine } from './engine.js';
import { imageReference, loadImage } from './images.js';
import { checkName, type Inspect } from './inspect.js';
import { type Journal, newJournal, temporaryName, writeJournal } from './journal.js';
import { layOut } from './layout.js';
import { fields, text } from './narrow.js';
import { ensureNetworks } from './networks.js';
import { makeStage, type Place, stage } from './place.js';
import { recipe } from './recipe.js';
import { refuseLacks } from './references.js';
import { plannedInspect } from './remap.js';
import { discardDraft, revertSwap, type UndoDeps } from './undo.js';
import { emptyWholeRoot, hideImage, isWholeRoot } from './whole-root.js';

/** One container in the making. What it makes is in the journal before it exists. */
class DockerDraft implements Draft {
  private ended = false;
  private restart: unknown;
  private layer: { readonly upper: string; readonly lower: readonly string[] } | undefined;
  private made: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(
    private readonly deps: UndoDeps,
    private readonly plan: RestorePlan,
    private readonly inspect: Inspect,
    private readonly journal: Journal,
    private readonly signal: AbortSignal,
    readonly needsImage: boolean,
  ) {}

  private get digest(): string {
    return this.plan.image?.digest ?? this.inspect.imageId;
  }

  private check(): void {
    if (this.ended) throw new PluginError('invalid', 'This draft has ended');
    if (this.signal.aborted) throw new PluginError('aborted', `Restoring ${this.plan.container} was stopped`);
  }

  private save(): Promise<void> {
    return writeJournal(this.deps.stateFolder, this.journal);
  }

  private note<T>(list: T[], one: T): Promise<void> {
    list.push(one);
    return this.save();
  }

  async loadImage(source: Readable): Promise<void> {
    this.check();
    if (this.needsImage) this.journal.image = this.digest;
    await this.save();
    this.journal.tags.push(...(await loadImage(this.deps.client, this.digest, source, this.signal)));
    await this.save();
  }

  async folders(): Promise<ReadonlyMap<string, string>> {
    this.check();
    this.made ??= this.make(); // asked again, the same folders
    return this.made;
  }

  private async make(): Promise<ReadonlyMap<string, string>> {
    const { journal, inspect, plan } = this;
    const { client } = this.deps;
    const { places, sources } = await layOut(client, plan, inspect, journal.rand, {
      volume: (name) => this.note(journal.volumes, name),
      place: (place) => this.note(journal.places, place),
    });
    await ensureNetworks(client, inspect, (name) => this.note(journal.networks, name));
    for (const place of places.values()) await makeStage(place);
    const upper = await this.create(sources);
    for (const place of places.values()) await emptyDirect(place); // the engine copies the image's files into a new volume
    const folders = new Map([...places].map(([name, place]) => [name, stage(place)]));
    const unknown = plan.sources.find((source) => source.name !== 'rootfs' && !folders.has(source.name));
    if (unknown) throw new PluginError('damaged', `The description of ${plan.description.name} has no volume named ${unknown.name}`);
    return plan.sources.some((source) => source.name === 'rootfs') ? new Map([['rootfs', upper], ...folders]) : folders;
  }

  private async create(sources: ReadonlyMap<string, string>): Promise<string> {
    const { journal, inspect } = this;
    const { client } = this.deps;
    const wanted = text(inspect.config.Image);
    const { reference, tagged } = await imageReference(client, this.digest, wanted);
    if (tagged) journal.tags.push(wanted);
    const { body, connect, restart } = recipe(inspect, reference, sources);
    this.restart = restart;
    const answer = await client.json('POST', `/containers/create?name=${temporaryName(journal)}`, { body });
    journal.newId = text(fields(answer).Id);
    await this.save();
    for (const [network, EndpointConfig] of connect) {
      await client.json('POST', `/networks/${encodeURIComponent(network)}/connect`, { body: { Container: journal.newId, EndpointConfig } });
    }
    const { id, layer } = await engine.inspect(client, journal.newId);
    this.layer = { upper: text(layer.UpperDir), lower: text(layer.LowerDir).split(':').filter(Boolean) };
    if (this.layer.upper === '') this.layer = { upper: await emptyWholeRoot(client, id, inspect), lower: [] };
    return this.layer.upper;
  }

  async commit(): Promise<{ readonly conflicts: readonly Conflict[]; readonly undo?: string }> {
    this.check();
    if (this.journal.newId === '' || !this.layer) throw new PluginError('invalid', 'Nothing was made yet: ask for the folders first');
    const { upper, lower } = this.layer;
    if (isWholeRoot(this.inspect) && this.plan.sources.some(({ name }) => name === 'rootfs')) await hideImage(upper, lower, this.inspect);
    // Durable before anything that exists is touched.
    await childOutput('sync', ['-f', '--', upper, ...this.journal.places.map(stage)]);
    const result = await commitDraft(this.deps, this.plan, this.inspect, this.journal, this.restart);
    this.ended = true;
    return result;
  }

  async discard(): Promise<void> {
    if (this.ended) return;
    if (this.journal.phase === 'swap') await revertSwap(this.deps, this.journal); // going back failed before; never remove what it still needs
    await discardDraft(this.deps, this.journal);
    this.ended = true;
  }
}

async function emptyDirect(place: Place): Promise<void> {
  if (place.mode !== 'direct') return;
  for (const name of await readdir(place.live)) await rm(`${place.live}/${name}`, { recursive: true, force: true });
}

/** Checks the plan against the engine and opens its journal. @throws PluginError */
export async function openDraft(deps: UndoDeps, plan: RestorePlan, signal: AbortSignal): Promise<Draft> {
  checkName(plan.container);
  const inspect = plannedInspect(plan);
  const holder = (await engine.containers(deps.client)).some((one) => JSON.stringify(one.Names ?? []).includes(`"/${plan.container}"`));
  if (plan.action === 'create' && holder) throw new PluginError('exists', `A container named ${plan.container} exists: replace it`);
  if (plan.action === 'replace' && !holder) throw new PluginError('not_found', `There is no container named ${plan.container}`);
  await refuseLacks(deps.client, plan, inspect);
  const needsImage = (await engine.imageId(deps.client, plan.image?.digest ?? inspect.imageId)) === undefined;
  const journal = newJournal(plan.container, randomBytes(4).toString('hex'));
  await writeJournal(deps.stateFolder, journal);
  return new DockerDraft(deps, plan, inspect, journal, signal, needsImage);
}
