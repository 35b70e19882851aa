import type { RuntimePlugin } from '../../../core/contract/index.js';
import { DockerRuntime } from './runtime.js';

/** Docker by its own API on a unix socket: client sends HTTP, describe and mounts read a container, draft builds a new one beside
 *  the old one, commit and undo swap the two under a journal. */
const plugin: RuntimePlugin<{ readonly socket: string }> = {
  open: async (context) => new DockerRuntime(context),
};

export default plugin;
