// The stub with a real model behind it.
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { Stub, type SampleInput, type StubOptions } from './stub.js';

const servers: ModelServer[] = [];
/** For afterEach. */
export const stopServers = async () => void (await Promise.all(servers.splice(0).map((server) => server.stop())));

/** A server with a real model, loaded from the folder that it is told. */
export class ModelServer {
  private policy?: Policy;
  private last: Promise<unknown> = Promise.resolve();
  stub!: Stub;

  static async start(options: Partial<StubOptions> = {}): Promise<ModelServer> {
    const server = new ModelServer();
    await server.load(demoModel());
    server.stub = await Stub.start({
      ...{ kind: 'sglang', sample: (input) => server.sample(input), onReload: (folder) => server.load(folder) },
      ...options,
    });
    servers.push(server);
    return server;
  }

  private async load(folder: string): Promise<void> {
    const old = this.policy;
    this.policy = await Policy.load(folder);
    await this.last.catch(() => undefined);
    old?.dispose();
  }

  private sample({ tokens, seed, maxTokens, temperature }: SampleInput) {
    const options = { seed, temperature, maxNewTokens: maxTokens };
    const drawn = this.policy!.generate([Int32Array.from(tokens)], options).then(({ completions: [c] }) => ({
      ...{ tokens: [...c!.tokens], logps: [...c!.logps], finishReason: c!.finishReason },
    }));
    this.last = drawn;
    return drawn;
  }

  async stop(): Promise<void> {
    await this.stub.die().catch(() => undefined);
    this.policy?.dispose();
  }
}
