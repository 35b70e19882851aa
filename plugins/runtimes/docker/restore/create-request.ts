import type { Inspect } from '../engine/inspect.js';
import { type Fields, fields, items, text, texts } from '../engine/json.js';

/** Requests that create the container of an inspect text again. */
export interface CreateRequest {
  readonly body: Fields;
  /** Networks to connect after creation: engines before 25 accept only one at creation. */
  readonly connect: ReadonlyMap<string, Fields>;
  readonly restart: unknown;
}

/** Where a mount comes from on this machine. */
export interface MountSource {
  /** A volume's name or a host path. */
  readonly after: string;
  /** Mount read-only, whatever the inspect text says. */
  readonly readOnly: boolean;
}
/** By destination. */
export type MountSources = ReadonlyMap<string, MountSource>;

function editBind(bind: string, sources: MountSources): string {
  const [source = '', destination = '', ...mode] = bind.split(':');
  const other = sources.get(destination);
  const modes = mode.flatMap((one) => one.split(',')).filter((one) => !(other?.readOnly && (one === 'rw' || one === 'ro')));
  const all = other?.readOnly ? [...modes, 'ro'] : modes;
  return [other?.after ?? source, destination, ...(all.length > 0 ? [all.join(',')] : [])].join(':');
}

/** The mounts in the form in which they were written (Binds or Mounts). Implicit mounts (anonymous, volumes-from) become explicit;
 *  otherwise the new container would get empty anonymous volumes. */
function mountFields(inspect: Inspect, sources: MountSources): Fields {
  const binds = texts(inspect.host.Binds);
  const mounts = items(inspect.host.Mounts).map(fields);
  const told = new Set([...binds.map((bind) => bind.split(':')[1]), ...mounts.map((mount) => text(mount.Target))]);
  const implicit = inspect.mounts
    .filter((mount) => (mount.type === 'volume' || mount.type === 'bind') && !told.has(mount.destination))
    .map((m) => {
      const other = sources.get(m.destination);
      return `${other?.after ?? (m.volume || m.source)}:${m.destination}${m.readOnly || other?.readOnly ? ':ro' : ''}`;
    });
  const moved = mounts.map((mount) => {
    const other = sources.get(text(mount.Target));
    return other === undefined ? mount : { ...mount, Source: other.after, ...(other.readOnly && { ReadOnly: true }) };
  });
  return { Binds: [...binds.map((bind) => editBind(bind, sources)), ...implicit], Mounts: moved, VolumesFrom: null };
}

function endpoint(value: unknown, shortId: string): Fields {
  const { IPAMConfig, Links, Aliases, DriverOpts } = fields(value);
  const aliases = texts(Aliases).filter((alias) => alias !== shortId);
  return { IPAMConfig: IPAMConfig ?? null, Links: Links ?? null, Aliases: aliases, DriverOpts: DriverOpts ?? null };
}

const builtIn = new Set(['bridge', 'host', 'none', 'default']);

/** The container's networks that a user created. */
export function userNetworks(inspect: Inspect): ReadonlyMap<string, Fields> {
  return new Map(Object.entries(inspect.networks).flatMap(([name, value]) => (builtIn.has(name) ? [] : [[name, fields(value)]])));
}

function configFields(inspect: Inspect, image: string): Fields {
  const config: Record<string, unknown> = { ...inspect.config, Image: image };
  if (config.Hostname === inspect.id.slice(0, 12)) delete config.Hostname; // the engine chose it
  if (text(inspect.host.NetworkMode).startsWith('container:')) {
    for (const name of ['Hostname', 'Domainname', 'ExposedPorts', 'MacAddress']) delete config[name]; // the other container's; refused here
  }
  return config;
}

/** "/other:/self/alias" as inspect has it, "other:alias" as create takes it. */
function links(value: unknown): string[] | null {
  const found = texts(value).map((link) =>
    link
      .split(':')
      .map((part) => part.split('/').at(-1))
      .join(':'),
  );
  return found.length === 0 ? null : found;
}

/** Turns an inspect text into requests. The restart policy is set later: an engine that restarts would start a half-filled
 *  draft. */
export function createRequest(inspect: Inspect, image: string, sources: MountSources): CreateRequest {
  const shortId = inspect.id.slice(0, 12);
  const endpoints = new Map([...userNetworks(inspect)].map(([name, value]) => [name, endpoint(value, shortId)]));
  const main = text(inspect.host.NetworkMode);
  const first = endpoints.get(main);
  endpoints.delete(main);
  const host = {
    ...inspect.host,
    ...mountFields(inspect, sources),
    Links: links(inspect.host.Links),
    ContainerIDFile: '',
    RestartPolicy: { Name: 'no' },
  };
  const body = {
    ...configFields(inspect, image),
    HostConfig: host,
    ...(first && { NetworkingConfig: { EndpointsConfig: { [main]: first } } }),
  };
  return { body, connect: endpoints, restart: inspect.host.RestartPolicy };
}
