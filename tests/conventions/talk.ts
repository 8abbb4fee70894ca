/** The first words of a front-end: enough to see that a back-end serves a connection. */
import { connectUnix, type Fd, MessageBuffer } from "../../ffi/mod.ts";

const GET_FEATURES = 1;
const HEADER_SIZE = 12;
const PATIENCE = 10_000;

const pause = () => new Promise((resolve) => setTimeout(resolve, 2));

/** Asks for the features and returns them. Throws when no answer comes. */
export async function askFeatures(connection: Fd): Promise<bigint> {
  const message = new MessageBuffer(64);
  message.view.setUint32(0, GET_FEATURES, true);
  message.view.setUint32(4, 1, true);
  message.view.setUint32(8, 0, true);
  message.send(connection, 0, HEADER_SIZE);
  const size = HEADER_SIZE + 8;
  let got = 0;
  for (const start = performance.now(); got < size; ) {
    const count = message.receive(connection, got, size - got);
    if (count === 0) throw new Error("The back-end closed the connection");
    if (count > 0) got += count;
    else if (performance.now() - start > PATIENCE) throw new Error("The back-end does not answer");
    else await pause();
  }
  return message.view.getBigUint64(HEADER_SIZE, true);
}

/** Connects once the program listens, and asks for the features. */
export async function connectAndAsk(path: string): Promise<Fd> {
  for (const start = performance.now(); ; ) {
    try {
      const connection = connectUnix(path);
      await askFeatures(connection);
      return connection;
    } catch (error) {
      if (performance.now() - start > PATIENCE) throw error;
      await pause();
    }
  }
}
