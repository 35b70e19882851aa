import { type ContainerState, PluginError } from '../../../../core/contract/index.js';
import { count, type Fields, fields, flag, items, text, texts } from './json.js';

export interface Mount {
  readonly type: string; // volume, bind, tmpfs, …
  readonly volume: string; // '' unless type is volume
  readonly source: string; // on the host
  readonly destination: string; // in the container
  readonly readOnly: boolean;
}

/** What this plugin reads of `docker inspect`; `config`, `host` and `networks` are whole, to be written back. */
export interface Inspect {
  readonly id: string;
  readonly name: string;
  readonly imageId: string;
  readonly state: ContainerState;
  readonly pid: number;
  readonly mounts: readonly Mount[];
  readonly layer: Fields; // GraphDriver.Data
  readonly config: Fields;
  readonly host: Fields;
  readonly networks: Fields;
  /** The inspect texts of its networks and volumes, where a run stores them. */
  readonly beside: readonly Fields[];
}

function readMount(value: unknown): Mount {
  const mount = fields(value);
  return {
    type: text(mount.Type),
    volume: text(mount.Name),
    source: text(mount.Source),
    destination: text(mount.Destination),
    readOnly: mount.RW === false,
  };
}

export function readState(value: unknown): ContainerState {
  const state = fields(value);
  if (flag(state.Paused)) return 'frozen';
  return flag(state.Running) ? 'running' : 'stopped';
}

const states: Readonly<Record<string, ContainerState>> = { running: 'running', restarting: 'running', paused: 'frozen' };

/** The name of a row from engine.containers. */
export function nameOf(row: Fields): string {
  return (texts(row.Names)[0] ?? '').slice(1);
}

/** The state of a row from engine.containers. */
export function stateInList(value: unknown): ContainerState {
  return states[text(value)] ?? 'stopped';
}

/** @throws PluginError damaged: no inspect text */
export function readInspect(answer: unknown, beside: readonly unknown[] = []): Inspect {
  const all = fields(answer);
  const name = text(all.Name).replace(/^\//, '');
  if (text(all.Id) === '' || name === '') throw new PluginError('damaged', 'This is no output of docker inspect: it has no Id or no Name');
  return {
    id: text(all.Id),
    name,
    imageId: text(all.Image),
    state: readState(all.State),
    pid: count(fields(all.State).Pid),
    // sorted, because the engine's order changes from call to call and decides names and which mount is stored
    mounts: items(all.Mounts)
      .map(readMount)
      .sort((a, b) => (a.destination < b.destination ? -1 : 1)),
    layer: fields(fields(all.GraphDriver).Data),
    config: fields(all.Config),
    host: fields(all.HostConfig),
    networks: fields(fields(all.NetworkSettings).Networks),
    beside: beside.map(fields),
  };
}

/** Reads a description's native text. @throws PluginError unsupported, damaged */
export function readNative(native: { readonly format: string; readonly text: string }): Inspect {
  if (native.format !== 'docker-inspect') throw new PluginError('unsupported', `Docker cannot build a container from ${native.format}`);
  try {
    const parsed: unknown = JSON.parse(native.text);
    const [own, ...beside] = Array.isArray(parsed) ? items(parsed) : [parsed]; // the docker command prints a list, the API an object
    return readInspect(own, beside);
  } catch (cause) {
    if (cause instanceof PluginError) throw cause;
    throw new PluginError('damaged', 'The stored docker inspect text is not JSON', { cause });
  }
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$/;

/** @throws PluginError invalid; so `..` and `?` never get into the API's paths */
export function checkName(name: string): string {
  if (namePattern.test(name)) return name;
  throw new PluginError('invalid', `"${name.slice(0, 140)}" is not a container's name: use letters, digits, '.', '_' and '-'`);
}

const hiddenPattern = /\.container-backup-(old-|until-[0-9]{8}-[0-9]{4}-)?[0-9a-f]{8,12}$/;

/** The name without the mark that a restore puts on a container moved aside. */
export const visibleName = (name: string): string => name.replace(hiddenPattern, '');

/** Whether a draft or a swap gave the container this name for a time. */
export function isHidden(name: string): boolean {
  return hiddenPattern.test(name);
}
