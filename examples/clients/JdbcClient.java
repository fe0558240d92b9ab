// Inserts 2 artists, 107 tracks and 3 events with JDBC; knows nothing of persist_pipeline.
// The URL is its argument.

import java.io.StringReader;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.PGConnection;

public class JdbcClient {
    static void check(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException(what);
        }
    }

    // an id that the server gives
    static int insertArtist(Connection connection, String name) throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO artists (name) VALUES (?)", new String[] {"id"})) {
            insert.setString(1, name);
            check(insert.executeUpdate() == 1, "the count of an INSERT");
            ResultSet keys = insert.getGeneratedKeys();
            check(keys.next(), "a generated key");
            return keys.getInt(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            connection.setAutoCommit(false);
            int satie = insertArtist(connection, "Erik Satie");
            int debussy = insertArtist(connection, "Claude Debussy");
            check(debussy > satie, "ids that increase");

            // a batch
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO tracks (artist_id, title, tags) VALUES (?, ?, ?)")) {
                Array tags = connection.createArrayOf("text", new String[] {"piano", "slow"});
                for (int n = 1; n <= 50; n++) {
                    insert.setInt(1, satie);
                    insert.setString(2, "Gnossienne " + n);
                    insert.setArray(3, tags);
                    insert.addBatch();
                }
                int[] counts = insert.executeBatch();
                check(Arrays.stream(counts).allMatch(count -> count == 1 || count == Statement.SUCCESS_NO_INFO), "the counts of a batch");
            }
            connection.commit();

            // COPY
            StringBuilder rows = new StringBuilder();
            for (int n = 1; n <= 57; n++) {
                rows.append(debussy).append("\tPrelude ").append(n).append('\n');
            }
            long copied = connection.unwrap(PGConnection.class).getCopyAPI().copyIn(
                "COPY tracks (artist_id, title) FROM STDIN", new StringReader(rows.toString()));
            check(copied == 57, "the count of COPY");
            connection.commit();

            // what is rolled back is not there
            try (Statement statement = connection.createStatement()) {
                check(statement.executeUpdate("INSERT INTO tracks (artist_id, title) VALUES (" + satie + ", 'Rolled back')") == 1, "a count");
                connection.rollback();
                statement.executeUpdate("INSERT INTO events (what) VALUES ('began'), ('went on'), ('ended')");
                connection.commit();
            }
        }
    }
}
