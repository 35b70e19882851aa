/** Paths of the host's own system: one list, from which each question takes its part. */

const programs = ['lib[^/]*', 'usr', 'bin', 'sbin'];
const kernel = ['proc', 'sys', 'run', 'var/run'];
const pattern = (names: readonly string[]) => new RegExp(`^/($|(${names.join('|')})(/|$))`);

const system = pattern([...programs, ...kernel, 'dev']);
const configured = pattern([...programs, ...kernel, 'dev', 'etc', 'boot']);
const rights = pattern([...programs, ...kernel, 'etc', 'boot', 'root', 'var/lib', 'var/spool']);

/** Whether a path holds the host's system and no container's data: a backup leaves it out. */
export const isSystemPath = (path: string): boolean => system.test(path);

/** Whether a path holds the host's system or its configuration: no volume is restored there. */
export const isReservedPath = (path: string): boolean => configured.test(path);

/** Whether a mount of the path is a right over the host's system. Devices are rights of their own. */
export const isPathOfRights = (path: string): boolean => rights.test(path);
