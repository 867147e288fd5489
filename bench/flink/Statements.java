import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/** Runs the statements of a file in a cluster within this process. Flink's own client of SQL is no package of any registry. */
public class Statements {
    public static void main(String[] arguments) throws Exception {
        var configuration = GlobalConfiguration.loadConfiguration(System.getenv("FLINK_CONF_DIR"));
        var tables = TableEnvironment.create(
                EnvironmentSettings.newInstance().withConfiguration(configuration).inStreamingMode().build());
        tables.getConfig().set("table.local-time-zone", "UTC");
        for (String statement : Files.readString(Path.of(arguments[0])).split(";\\s*\\n")) {
            TableResult result = tables.executeSql(statement.strip());
            if (statement.strip().startsWith("INSERT")) {
                result.await();
            }
        }
    }
}
