/** Root file systems of Debian packages, from the sources that this machine's apt has. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const cache = fileURLToPath(new URL('../../../out/cache/roots/', import.meta.url));

export interface DebianRoot {
  readonly packages: readonly string[];
  /** Further arguments of mmdebstrap. */
  readonly options: readonly string[];
}

/** Runs mmdebstrap, through the proxy of this machine's apt if it has one. Its log is `<path>.log`.
 *  @param path what it makes: a folder, or an archive whose ending says how it is compressed */
export async function makeDebianRoot(path: string, { packages, options }: DebianRoot): Promise<void> {
  const { stdout: about } = await run('sh', ['-c', '. /etc/os-release; echo "$VERSION_CODENAME"']);
  const format = 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)';
  const { stdout: found } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages', 'Origin: Debian']);
  const sources = [...new Set(found.split('\n').filter(Boolean))].sort().join('\n');
  if (sources === '') throw new Error('apt knows no Debian source: apt-get update first');
  const { stdout: settings } = await run('apt-config', ['dump']);
  const proxies = settings.split('\n').filter((line) => /^Acquire::https?::Proxy /i.test(line));
  await writeFile(`${path}.list`, `${sources}\n`);
  const more = [`--include=${packages.join(',')}`, `--logfile=${path}.log`, ...proxies.map((line) => `--aptopt=${line}`), ...options];
  try {
    await run('mmdebstrap', [...more, about.trim(), path, `${path}.list`], { maxBuffer: 1 << 28 });
  } catch (cause) {
    throw new Error(`mmdebstrap failed; ${path}.log says why`, { cause });
  } finally {
    await rm(`${path}.list`, { force: true });
  }
}

/** The archive of such a root, compressed by zstd. The folder out/cache keeps it, under a hash of its recipe. */
export async function cachedDebianRoot(recipe: DebianRoot): Promise<string> {
  const key = createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 32);
  const kept = `${cache}${key}.tar.zst`;
  if (await stat(kept).catch(() => undefined)) return kept;
  const fresh = `${cache}${key}-${process.pid}.tar.zst`;
  await mkdir(cache, { recursive: true });
  await makeDebianRoot(fresh, recipe);
  await rename(fresh, kept);
  await rm(`${fresh}.log`, { force: true });
  return kept;
}
