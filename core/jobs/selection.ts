/** What of a container a job backs up: its sources less what the job excludes, and a word on everything left out. */
import { type Description, PluginError, type Source } from '../contract/index.js';

export interface Selection {
  readonly sources: readonly Source[];
  readonly left_out: Description['left_out'];
}

/** @param exclude `volume:<name>` or `<source>:/path/glob`
 *  @throws PluginError invalid: an exclude that names no source · unavailable: a source that cannot be read now */
export function selection(description: Description, sources: readonly Source[], exclude: readonly string[]): Selection {
  const left_out = [...description.left_out];
  const kept = new Map(sources.map((source) => [source.name, source]));
  for (const one of exclude) {
    const colon = one.indexOf(':');
    const [name, rest] = [one.slice(0, colon), one.slice(colon + 1)];
    const source = kept.get(name === 'volume' ? rest : name);
    if (source === undefined || (source.name === 'rootfs' && name === 'volume')) throw unknown(one, sources);
    if (name === 'volume') kept.delete(rest);
    else kept.set(name, { ...source, excludes: [...source.excludes, `./${rest.replace(/^\/+/, '')}`] });
    left_out.push({ path: name === 'volume' ? source.path : one, reason: 'excluded by the job' });
  }
  const closed = [...kept.values()].find(({ unavailable }) => unavailable !== undefined);
  if (closed !== undefined) throw new PluginError('unavailable', closed.unavailable ?? '');
  return { sources: [...kept.values()], left_out };
}

function unknown(one: string, sources: readonly Source[]): PluginError {
  const names = sources.map(({ name }) => name).join(', ');
  return new PluginError('invalid', `exclude ${one} names nothing of this container; its sources are: ${names}`);
}
