/** Rights over the host that a restored container would have. They are judged from the same create request that the draft sends to
 *  the engine, and from the networks and volumes that the run describes. */
import { networkInterfaces } from 'node:os';
import type { Grant, RestorePlan } from '../../../../core/contract/index.js';
import { type Folders, hostPathGrant, quote, showJson, sortGrants } from '../../../shared/grants.js';
import { isPartial } from '../../../shared/placement.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import { type Inspect, isHidden, nameOf } from '../engine/inspect.js';
import { type Fields, fields, items, text, texts } from '../engine/json.js';
import { type NamedMount, namedMounts } from '../mounts.js';
import { createRequest } from '../restore/create-request.js';
import { applyRemap } from '../restore/remap.js';
import { networkRights } from './network-rights.js';
import { type EngineDefaults, settingRights, unknownFields } from './settings.js';

/** Facts of this machine that decide whether something is a right. */
export interface Surroundings {
  readonly folders: Folders;
  readonly engine: EngineDefaults;
  /** Subnets of this machine's own interfaces. */
  readonly subnets: readonly string[];
  /** The containers that mount each volume of the engine, by volume name. */
  readonly volumes: ReadonlyMap<string, readonly string[]>;
}

/** A mount as the create request asks for it; the inspect text's list of mounts may differ. */
interface ToldMount {
  readonly source: string;
  readonly destination: string;
  readonly readOnly: boolean;
}

const ordinaryMode = /^(ro|rw|nocopy|z|Z|private|rprivate|consistent|cached|delegated|default)$/;
const ordinaryPropagation = /^(private|rprivate)?$/;
const volumePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
/** Files that give a container the host's time zone; most compose files mount them read-only. */
const timeFiles = ['/etc/localtime', '/etc/timezone'];

class MountRights {
  readonly #found: Grant[] = [];
  readonly #named: readonly NamedMount[];

  constructor(
    private readonly plan: RestorePlan,
    inspect: Inspect,
    private readonly around: Surroundings,
  ) {
    this.#named = namedMounts(inspect);
  }

  async of(host: Fields): Promise<readonly Grant[]> {
    for (const mount of this.#named) await this.#checkMount(mount);
    for (const bind of items(host.Binds)) await this.#bind(bind);
    for (const mount of items(host.Mounts)) await this.#mount(mount);
    return this.#found;
  }

  #add(code: string, what: string): void {
    this.#found.push({ code, what });
  }

  /** Whether the client itself chose the place. */
  #isMoved({ source_name, type, volume, source }: NamedMount): boolean {
    const other = this.plan.remap?.volumes?.[source_name];
    return other !== undefined && other !== (type === 'volume' ? volume : source);
  }

  #isHeld({ source_name }: NamedMount): boolean {
    return this.plan.sources.some(({ name }) => name === source_name);
  }

  async #checkMount(mount: NamedMount): Promise<void> {
    const { type, volume, source, destination } = mount;
    if (destination.includes(':')) this.#add('mount', `${quote(source)} at ${quote(destination)}`);
    if (this.#isMoved(mount)) return;
    if (type === 'bind') await this.#path(mount);
    if (type === 'volume') this.#volume(mount, volume);
  }

  async #path({ source, destination, readOnly }: ToldMount): Promise<void> {
    const isHeld = this.#named.some((one) => one.source === source && this.#isHeld(one));
    if (readOnly && !isHeld && timeFiles.includes(source)) return;
    const grant = await hostPathGrant(source, destination, this.around.folders);
    if (grant) this.#found.push(grant);
  }

  /** A right: an existing volume that is not the container's own, or that the run does not fill. */
  #volume(mount: NamedMount, name: string): void {
    if (!volumePattern.test(name)) this.#add('mount', `volume ${quote(name)} at ${quote(mount.destination)}`);
    const users = this.around.volumes.get(name);
    const { container, action, description } = this.plan;
    if (users === undefined || (action === 'replace' && users.includes(container))) return;
    const isCopied = container !== description.name && this.#isHeld(mount);
    if (!isCopied && (users.length > 0 || !this.#isHeld(mount))) this.#add('other_volume', `${quote(name)} at ${quote(mount.destination)}`);
  }

  /** Judges a mount of the request by the request, where the list of mounts says something else. */
  async #tellMount(told: ToldMount, shown: string): Promise<void> {
    const listed = this.#named.find(({ destination }) => destination === told.destination);
    if (listed && this.#isMoved(listed)) return;
    if (told.source.startsWith('/')) return this.#path(told);
    const isNamed = told.source === '' || told.source === listed?.volume; // without a name the engine creates a new volume
    if (listed?.type !== 'volume' || !isNamed) this.#add('mount', shown);
  }

  async #bind(value: unknown): Promise<void> {
    const [source = '', destination = '', mode = 'rw', ...rest] = text(value).split(':');
    if (typeof value !== 'string' || !destination.startsWith('/') || rest.length > 0) return this.#add('mount', showJson(value));
    const modes = mode.split(',');
    for (const one of modes.filter((word) => !ordinaryMode.test(word))) this.#add('mount_option', `${quote(one)} at ${quote(destination)}`);
    await this.#tellMount({ source, destination, readOnly: modes.includes('ro') }, showJson(value));
  }

  async #mount(value: unknown): Promise<void> {
    const { Type, Source, Target, ReadOnly, Consistency: _c, BindOptions, VolumeOptions, TmpfsOptions: _t, ...rest } = fields(value);
    const {
      Propagation,
      NonRecursive: _n,
      CreateMountpoint: _m,
      ReadOnlyNonRecursive: _r,
      ReadOnlyForceRecursive: _f,
      ...bindRest
    } = fields(BindOptions);
    const { NoCopy: _copy, Labels: _labels, DriverConfig, Subpath: _sub, ...volumeRest } = fields(VolumeOptions);
    const { Name, Options, ...driverRest } = fields(DriverConfig);
    const destination = text(Target);
    const unknown = { ...rest, ...bindRest, ...volumeRest, ...driverRest, Options, ...(Name !== 'local' && { Name }) };
    this.#found.push(...unknownFields(`mount at ${quote(destination)}`, unknown, () => false));
    if (!ordinaryPropagation.test(text(Propagation))) this.#add('mount_option', `${quote(text(Propagation))} at ${quote(destination)}`);
    if (Type === 'tmpfs') return;
    if ((Type !== 'bind' && Type !== 'volume') || !destination.startsWith('/')) return this.#add('mount', showJson(value));
    await this.#tellMount({ source: text(Source), destination, readOnly: ReadOnly === true }, showJson(value));
  }
}

/** The rights of a plan on such a machine. @throws PluginError invalid, unsupported, damaged */
export async function grantsOf(plan: RestorePlan, around: Surroundings): Promise<readonly Grant[]> {
  if (isPartial(plan)) return []; // the container stays, and only its own volumes are filled
  const inspect = applyRemap(plan);
  const { body } = createRequest(inspect, '', new Map());
  const mounts = await new MountRights(plan, inspect, around).of(fields(body.HostConfig));
  return sortGrants([...settingRights(body, around.engine), ...networkRights(inspect, around.subnets), ...mounts]);
}

/** The engine's own bridges: the engine itself refuses a subnet that one of them has. */
const engineBridge = /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

function ownSubnets(): string[] {
  const named = Object.entries(networkInterfaces()).filter(([name]) => !engineBridge.test(name));
  return named.flatMap(([, addresses = []]) => addresses.flatMap(({ cidr }) => (cidr === null ? [] : [cidr])));
}

async function volumeUsers(client: Client): Promise<ReadonlyMap<string, readonly string[]>> {
  const [volumes, containers] = await Promise.all([client.json('GET', '/volumes'), engine.containers(client)]);
  const users = new Map<string, string[]>(items(fields(volumes).Volumes).map((one) => [text(fields(one).Name), []]));
  for (const row of containers.filter((one) => !isHidden(nameOf(one)))) {
    for (const mount of items(row.Mounts)) users.get(text(fields(mount).Name))?.push(nameOf(row));
  }
  return users;
}

/** The rights of a plan on this engine. @throws PluginError */
export async function engineGrants(client: Client, plan: RestorePlan, shares: readonly string[]): Promise<readonly Grant[]> {
  const info = fields(await client.json('GET', '/info'));
  return grantsOf(plan, {
    folders: { shares, except: [text(info.DockerRootDir)].filter((path) => path !== '') },
    engine: {
      privateCgroups: texts(info.SecurityOptions).includes('name=cgroupns'),
      logDriver: text(info.LoggingDriver),
      runtime: text(info.DefaultRuntime),
    },
    subnets: ownSubnets(),
    volumes: await volumeUsers(client),
  });
}
