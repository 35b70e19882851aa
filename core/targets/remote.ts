/** Opens a target on another machine: picks its plugin, builds the plugin's options, and pins what the first contact shows. */

import { PluginError } from '../contract/index.js';
import type { FoundTarget } from '../jobs/job.js';
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import { briefWaits, type PolicyTarget, retry } from '../policy/index.js';
import { parse, type Shape, ValidationError } from '../schemas.js';
import { addressOf } from './address.js';
import { openUnderPolicy, type PolicyOpening } from './under-policy.js';

export interface RemoteTarget {
  readonly id: number;
  /** With its secrets. */
  readonly spec: Shape<'target'>;
  readonly found?: FoundTarget;
  /** Its secrets, sealed under a key that this appliance no longer has. */
  readonly lost?: string;
}

/** @throws PluginError secrets_lost */
export function requireSecrets({ id, spec, lost }: RemoteTarget): void {
  if (lost === undefined) return;
  const why = 'it was stored under a key that is lost (secret.key)';
  throw new PluginError('secrets_lost', `the password of target ${id} (${spec.name}) cannot be opened: ${why}; set the password again`);
}

/** Parses the row that the main thread sealed for a worker. */
export function parseRemote(text: string): RemoteTarget {
  const value: unknown = JSON.parse(text);
  const { id, spec, found }: Record<string, unknown> = typeof value === 'object' ? { ...value } : {};
  const known = found === undefined ? undefined : parse('worker#/$defs/found', found);
  if (typeof id !== 'number') throw new PluginError('invalid', 'the task names no target');
  return { id, spec: parse('target', spec), ...(known && { found: known }) };
}

export interface OpenedRemote {
  readonly target: PolicyTarget;
  /** Id of the plugin. */
  readonly type: string;
  /** What the caller must store, when it differs from what is stored. */
  readonly found: FoundTarget | undefined;
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '');

/** The plugin's options, from the target's row and the path: the keys that the plugin's schema names. */
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

/** Checks a target by its plugin's schema. @throws ValidationError with pointers into the target */
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
    const errors = error.errors.map(({ pointer, reason }) => {
      const [, first = ''] = pointer.split('/');
      return { pointer: connection.includes(first) ? `/${connectionKey(first)}` : `/options${pointer}`, reason };
    });
    throw new ValidationError(errors);
  }
}

const connection = ['host', 'port', 'username', 'password', 'base', 'encrypt'];
const connectionKey = (name: string): string => (name === 'host' || name === 'port' ? 'ipaddr' : name);

/** Probes the usual ports for the kind of server. @throws PluginError unavailable, unsupported */
async function detectType(plugins: Plugins, { spec }: RemoteTarget, o: PluginOpening): Promise<string> {
  const { host, port } = addressOf(spec.ipaddr) ?? { host: spec.ipaddr };
  const detections = await plugins.detections();
  for (const { id, port: usual, answers } of detections) if (await answers(host, port ?? usual, o.signal)) return id;
  const ports = port ?? detections.map((one) => one.port).join(' or ');
  throw new PluginError('unavailable', `${host}: no server of a known kind answers at port ${ports}; start it, or give the target a type`, {
    retryable: true,
  });
}

/** What is stored of the server, or what this first contact shows (trust on first use). */
async function contact(plugins: Plugins, remote: RemoteTarget, o: PluginOpening): Promise<FoundTarget> {
  const { spec } = remote;
  const known = remote.found?.ipaddr === spec.ipaddr ? remote.found : undefined;
  const type = spec.type ?? known?.type ?? (await detectType(plugins, remote, o));
  if (known?.type === type) return known;
  const options = await plugins.pin(type, remoteOptions(plugins, type, spec, ''), o);
  return { ipaddr: spec.ipaddr, type, options };
}

/** Opens a folder of the target under the policy. Retries after the policy's `waits`.
 *  @throws PluginError secrets_lost, and what detection, pinning and the plugin's open throw */
export async function openRemote(plugins: Plugins, remote: RemoteTarget, path: string, o: PolicyOpening): Promise<OpenedRemote> {
  requireSecrets(remote);
  const again = (error: PluginError, ms: number) => o.log('info', `${remote.spec.name} is tried again in ${ms} ms: ${error.message}`);
  return retry(
    async () => {
      const found = await contact(plugins, remote, o);
      const options = { ...found.options, ...remoteOptions(plugins, found.type, remote.spec, path) };
      const target = await openUnderPolicy(plugins, { id: found.type, options, name: remote.spec.name }, o);
      return { target, type: found.type, found: found === remote.found ? undefined : found };
    },
    { delays: o.waits ?? briefWaits, signal: o.signal, onRetry: again },
  );
}
