/** Selects the sources that a job backs up, and lists what it leaves out. */
import { type Description, PluginError, type Source } from '../../contract/index.js';

export interface Selection {
  readonly sources: readonly Source[];
  readonly left_out: Description['left_out'];
}

/** The source that an exclude leaves out as a whole: `volume:<name>`, or `<name>:*` for all its entries. */
function wholeSource(name: string, rest: string): string | undefined {
  if (name === 'volume') return rest;
  return name !== 'rootfs' && /^\/*\**$/.test(rest) ? name : undefined;
}

/** @param exclude `volume:<name>` or `<source>:/path/glob`
 *  @throws PluginError invalid: an exclude that names no source · unavailable: a source that cannot be read now */
export function selectSources(description: Description, sources: readonly Source[], exclude: readonly string[]): Selection {
  const left_out = [...description.left_out];
  const kept = new Map(sources.map((source) => [source.name, source]));
  const emptied = new Map<string, Source>();
  for (const one of exclude) {
    const colon = one.indexOf(':');
    const [name, rest] = [one.slice(0, colon), one.slice(colon + 1)];
    const whole = wholeSource(name, rest);
    const still = kept.get(whole ?? name);
    const source = still ?? emptied.get(name);
    if (source === undefined || whole === 'rootfs') throw unknown(one, sources);
    if (whole !== undefined && name !== 'volume') emptied.set(name, source); // further excludes may still name paths in it
    if (whole !== undefined) kept.delete(whole);
    else if (still) kept.set(name, { ...still, excludes: [...still.excludes, `./${rest.replace(/^\/+/, '')}`] });
    left_out.push({ path: whole === undefined ? one : source.path, reason: 'excluded by the job' });
  }
  const closed = [...kept.values()].find(({ unavailable }) => unavailable !== undefined);
  if (closed !== undefined) throw new PluginError('unavailable', closed.unavailable ?? '');
  return { sources: [...kept.values()], left_out };
}

function unknown(one: string, sources: readonly Source[]): PluginError {
  const names = sources.map(({ name }) => name).join(', ');
  return new PluginError('invalid', `exclude ${one} names nothing of this container; its sources are: ${names}`);
}
