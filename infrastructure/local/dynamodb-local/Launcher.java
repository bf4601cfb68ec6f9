import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBRequestHandler;
import com.amazonaws.services.dynamodbv2.local.server.LocalDynamoDBServerHandler;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.ContextHandler;

/**
 * Serves DynamoDB Local on loopback only; its own runner binds every interface and sends
 * telemetry. Run by the JVM straight from source: {@code java -cp 'lib/*' Launcher.java PORT DIRECTORY}.
 */
public final class Launcher {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            System.err.println("usage: Launcher PORT DIRECTORY");
            System.exit(2);
        }
        // Arguments: transient port unused, not in memory, directory, one shared database
        // whatever the credentials and region, no artificial delay of statuses.
        var requests = new LocalDynamoDBRequestHandler(0, false, arguments[1], true, false);
        var server = new Server();
        var connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(arguments[0]));
        server.addConnector(connector);
        server.setHandler(new ContextHandler(new LocalDynamoDBServerHandler(requests, null)));
        Runtime.getRuntime().addShutdownHook(new Thread(requests::shutdown));
        server.start();
        server.join();
    }
}
