import type { RuntimePlugin } from '../../../core/contract/index.js';
import { DockerRuntime } from './runtime.js';

/** Docker by its own API on a unix socket: client speaks, describe and mounts tell what a container is,
 *  draft, commit and undo build one beside the old one and swap them under a journal. */
const plugin: RuntimePlugin<{ readonly socket: string }> = {
  open: async (context) => new DockerRuntime(context),
};

export default plugin;
