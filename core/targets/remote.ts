/** A target on another machine: which plugin it is for, what that plugin is told, and what the first contact showed. */

import { PluginError, type Target } from '../contract/index.js';
import type { FoundTarget } from '../jobs/job.js';
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import { briefWaits, retry } from '../policy/index.js';
import { parse, type Shape, ValidationError } from '../schemas.js';
import { addressOf } from './address.js';

export interface RemoteTarget {
  readonly id: number;
  /** With its secrets. */
  readonly spec: Shape<'target'>;
  readonly found?: FoundTarget;
  /** The appliance's key does not open its secrets any more. */
  readonly lost?: string;
}

/** @throws PluginError secrets_lost */
export function requireSecrets({ id, spec, lost }: RemoteTarget): void {
  if (lost === undefined) return;
  const why = 'it was stored under a key that is lost (secret.key)';
  throw new PluginError('secrets_lost', `the password of target ${id} (${spec.name}) cannot be opened: ${why}; set the password again`);
}

/** As it travels, sealed, from the main thread to a worker. */
export function parseRemote(text: string): RemoteTarget {
  const value: unknown = JSON.parse(text);
  const { id, spec, found }: Record<string, unknown> = typeof value === 'object' ? { ...value } : {};
  const known = found === undefined ? undefined : parse('worker#/$defs/found', found);
  if (typeof id !== 'number') throw new PluginError('invalid', 'the task names no target');
  return { id, spec: parse('target', spec), ...(known && { found: known }) };
}

export interface RemoteOpening extends PluginOpening {
  /** Before each further try; whoever has a client waiting takes fewer. */
  readonly waits?: readonly number[];
}
export interface OpenedRemote {
  readonly target: Target;
  /** Id of the plugin. */
  readonly type: string;
  /** To be kept, when it is not what is known. */
  readonly found: FoundTarget | undefined;
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '');

/** What the record and a path on it tell the plugin of a type: where its schema names it. */
export function remoteOptions(
  plugins: Pick<Plugins, 'optionNames'>,
  type: string,
  spec: RemoteTarget['spec'],
  path: string,
): Record<string, unknown> {
  const address = addressOf(spec.ipaddr);
  if (address === undefined) throw new PluginError('invalid', `target ${spec.name}: ipaddr must be host, host:port or [v6]:port`);
  const { username, password, encrypt } = spec;
  const all = { ...address, username, password, encrypt, base: [...partsOf(spec.base), ...partsOf(path)].join('/') };
  const named = plugins.optionNames(type);
  const told = Object.entries(all).filter(([name]) => named === undefined || named.includes(name));
  return { ...spec.options, ...Object.fromEntries(told) };
}

/** Holds a target against its plugin's schema. @throws ValidationError with pointers into the target */
export function checkTargetOptions(plugins: Pick<Plugins, 'optionNames' | 'checkOptions'>, type: string, spec: RemoteTarget['spec']): void {
  const own = Object.keys(spec.options ?? {});
  const said = own.filter((name) => connection.includes(name));
  if (said.length > 0)
    throw new ValidationError(
      said.map((name) => ({ pointer: `/options/${name}`, reason: `is said by ${connectionKey(name)}, outside options` })),
    );
  try {
    plugins.checkOptions(type, remoteOptions(plugins, type, spec, ''));
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    const placed = error.errors.map(({ pointer, reason }) => {
      const [, first = ''] = pointer.split('/');
      return { pointer: connection.includes(first) ? `/${connectionKey(first)}` : `/options${pointer}`, reason };
    });
    throw new ValidationError(placed);
  }
}

const connection = ['host', 'port', 'username', 'password', 'base', 'encrypt'];
const connectionKey = (name: string): string => (name === 'host' || name === 'port' ? 'ipaddr' : name);

/** The plugin of the kind of server that answers. @throws PluginError unavailable, unsupported */
async function detectType(plugins: Plugins, { spec }: RemoteTarget, o: PluginOpening): Promise<string> {
  const { host, port } = addressOf(spec.ipaddr) ?? { host: spec.ipaddr };
  const detections = await plugins.detections();
  for (const { id, port: usual, answers } of detections) if (await answers(host, port ?? usual, o.signal)) return id;
  const ports = port ?? detections.map((one) => one.port).join(' or ');
  throw new PluginError('unavailable', `${host}: no server of a known kind answers at port ${ports}; start it, or give the target a type`, {
    retryable: true,
  });
}

/** What is known of the server by now, or what is found at this first contact. */
async function contact(plugins: Plugins, remote: RemoteTarget, o: PluginOpening): Promise<FoundTarget> {
  const { spec } = remote;
  const known = remote.found?.ipaddr === spec.ipaddr ? remote.found : undefined;
  const type = spec.type ?? known?.type ?? (await detectType(plugins, remote, o));
  if (known?.type === type) return known;
  const options = await plugins.pin(type, remoteOptions(plugins, type, spec, ''), o);
  return { ipaddr: spec.ipaddr, type, options };
}

/** Opens a folder of the target. @throws PluginError secrets_lost, and what detection, pinning and the plugin's open throw */
export async function openRemote(plugins: Plugins, remote: RemoteTarget, path: string, o: RemoteOpening): Promise<OpenedRemote> {
  requireSecrets(remote);
  const again = (error: PluginError, ms: number) => o.log('info', `${remote.spec.name} is tried again in ${ms} ms: ${error.message}`);
  return retry(
    async () => {
      const found = await contact(plugins, remote, o);
      const options = { ...found.options, ...remoteOptions(plugins, found.type, remote.spec, path) };
      const target = await plugins.openTarget(found.type, options, o);
      return { target, type: found.type, found: found === remote.found ? undefined : found };
    },
    { delays: o.waits ?? briefWaits, signal: o.signal, onRetry: again },
  );
}
